//! Room on the guest's filesystems.

use cloudspec::RuleSpec;

use crate::{Finding, FixError, Stage, State};

/// Used part in percent, rounded up as `df` does; `None` when there is nothing of the kind.
fn percent(used: u64, free: u64) -> Option<u64> {
    let all = u128::from(used) + u128::from(free);
    (all != 0).then(|| (u128::from(used) * 100).div_ceil(all) as u64)
}

pub(super) fn run(
    spec: &RuleSpec,
    bytes_percent: u64,
    inodes_percent: u64,
    stage: &Stage<'_>,
) -> Result<Finding, FixError> {
    let mut seen = Vec::new();
    let mut full = Vec::new();
    for mount in stage.tree().mounts() {
        let space = mount.filesystem.space()?;
        // As df: what is reserved for root counts neither as used nor as available.
        let bytes = percent(space.total_bytes.saturating_sub(space.free_bytes), space.available_bytes);
        let inodes = percent(space.inodes.saturating_sub(space.free_inodes), space.free_inodes);
        for (what, used, limit) in [("bytes", bytes, bytes_percent), ("inodes", inodes, inodes_percent)] {
            let Some(used) = used else { continue };
            let line = format!("{} on {}: {used} % of the {what} are used", mount.at, mount.device);
            match used > limit {
                true => full.push(format!("{line}, more than {limit} %")),
                false => seen.push(line),
            }
        }
    }
    if full.is_empty() {
        return Ok(Finding::new(spec, State::Holds, seen));
    }
    let remedy = "Free room in the guest, or build it on a larger partition.";
    Ok(Finding::needs_action(spec, full, remedy))
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn percents_are_those_of_df() {
        for (used, free, expected) in
            [(0, 0, None), (0, 5, Some(0)), (1, 999, Some(1)), (90, 10, Some(90)), (5, 0, Some(100))]
        {
            assert_eq!(percent(used, free), expected, "{used} {free}");
        }
        assert_eq!(percent(u64::MAX, u64::MAX), Some(50));
    }
}
