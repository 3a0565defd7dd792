//! Who does which image when several processes share one batch.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::str::FromStr;

use crate::{BatchError, Job, line::ShardOf, sha256_hex};

/// Shards at most.
const SHARDS_MAX: u32 = 100_000;

/// `i/N`, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which one.
    pub index: u32,
    /// Of how many.
    pub count: u32,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed =
            text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match parsed {
            Some((index, count)) if (1..=count).contains(&index) && count <= SHARDS_MAX => {
                Ok(Self { index, count })
            }
            _ => Err(format!("a shard is I/N, with I from 1 to N and N at most {SHARDS_MAX}")),
        }
    }
}

/// The whole distribution.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Shard of each job, from 1.
    pub shard_of: Vec<u32>,
    /// Digest of the distribution.
    pub plan: String,
}

impl Assignment {
    /// What a report line says about it.
    pub fn of(&self, shard: Shard) -> ShardOf {
        ShardOf { index: shard.index, count: shard.count, plan: self.plan.clone() }
    }
}

/// Distributes jobs: the largest first, each to the shard with the fewest bytes so far. It depends on nothing but the
/// order of the jobs and their bytes, so every shard finds the same; hence what changes while shards run must not
/// count: the bytes of images that are fixed in place are taken from the manifest only.
pub fn shard(jobs: &[Job], count: u32) -> Result<Assignment, BatchError> {
    if let Some(job) = jobs.iter().find(|job| count > 1 && job.is_in_place() && job.entry.allocated.is_none())
    {
        return Err(BatchError::UnstableShards {
            origin: job.origin.clone(),
            image: job.entry.image.clone(),
        });
    }
    let weights: Vec<u64> = jobs.iter().map(|job| job.allocated).collect();
    let shard_of = distribute(&weights, count);
    let text: String =
        weights.iter().zip(&shard_of).map(|(weight, shard)| format!("{weight} {shard}\n")).collect();
    let plan = sha256_hex(text.as_bytes()).chars().take(16).collect();
    Ok(Assignment { shard_of, plan })
}

fn distribute(weights: &[u64], count: u32) -> Vec<u32> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|index| (Reverse(weights[*index]), *index));
    // Bytes, then number of images, so that empty images are spread, too.
    let mut loads: BinaryHeap<Reverse<(u64, usize, u32)>> =
        (1..=count).map(|shard| Reverse((0, 0, shard))).collect();
    let mut shard_of = vec![1; weights.len()];
    for index in order {
        if let Some(Reverse((bytes, images, shard))) = loads.pop() {
            shard_of[index] = shard;
            loads.push(Reverse((bytes.saturating_add(weights[index]), images + 1, shard)));
        }
    }
    shard_of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_complete_and_always_the_same() {
        // A few large and many small ones, some empty.
        let weights: Vec<u64> =
            (0..500u64).map(|index| if index % 50 == 0 { 1 << 30 } else { index % 7 * 1000 }).collect();
        for count in [1u32, 2, 3, 7, 16] {
            let shards = distribute(&weights, count);
            assert_eq!(shards, distribute(&weights, count));
            let load = |shard| {
                weights
                    .iter()
                    .zip(&shards)
                    .filter(|(_, of)| **of == shard)
                    .map(|(weight, _)| weight)
                    .sum::<u64>()
            };
            let loads: Vec<u64> = (1..=count).map(load).collect();
            assert_eq!(loads.iter().sum::<u64>(), weights.iter().sum::<u64>());
            // Largest first never leaves shards further apart than the largest image.
            assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1 << 30, "{loads:?}");
            assert!((1..=count).all(|shard| shards.contains(&shard)));
        }
        let empty = distribute(&[0; 9], 3);
        assert!((1..=3).all(|shard| empty.iter().filter(|of| **of == shard).count() == 3), "{empty:?}");
    }

    #[test]
    fn shards_are_counted_from_one() {
        assert_eq!("2/3".parse(), Ok(Shard { index: 2, count: 3 }));
        for wrong in ["0/3", "4/3", "1", "a/b", "1/0", "1/9999999"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
