//! Accounts of time and memory.

use std::time::Instant;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use serde::Serialize;

use crate::render::output::Failure;

/// What one run took.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cost {
    pub user_seconds: f64,
    pub system_seconds: f64,
    pub wall_seconds: f64,
    /// Highest resident set; `None` where the kernel does not tell it for one run.
    pub peak_rss_bytes: Option<u64>,
}

impl Cost {
    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// Whose account.
#[derive(Clone, Copy)]
pub enum Who {
    /// This process.
    Own,
    /// Commands that this process ran.
    Children,
}

fn usage(who: Who) -> Result<Usage, Failure> {
    let who = match who {
        Who::Own => UsageWho::RUSAGE_SELF,
        Who::Children => UsageWho::RUSAGE_CHILDREN,
    };
    getrusage(who)
        .map_err(|error| Failure::new("host.io", report::Class::Environment, format!("getrusage: {error}")))
}

/// Does `work` and says what it took.
pub fn measured<T>(who: Who, work: impl FnOnce() -> Result<T, Failure>) -> Result<(T, Cost), Failure> {
    let own = matches!(who, Who::Own);
    // 5 sets the peak back to what is resident now (proc(5), clear_refs).
    let is_reset = own && std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = usage(who)?;
    let started = Instant::now();
    let done = work()?;
    let wall_seconds = started.elapsed().as_secs_f64();
    let after = usage(who)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let peak_rss_bytes = match who {
        Who::Own if is_reset => peak(),
        Who::Own => None,
        // The greatest of all commands so far; here they are runs of one.
        Who::Children => u64::try_from(after.max_rss()).ok().map(|kib| kib << 10),
    };
    let cost = Cost {
        user_seconds: seconds(after.user_time()) - seconds(before.user_time()),
        system_seconds: seconds(after.system_time()) - seconds(before.system_time()),
        wall_seconds,
        peak_rss_bytes,
    };
    Ok((done, cost))
}

/// `VmHWM` of /proc/self/status.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// `model name` of /proc/cpuinfo.
pub fn cpu_model() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim().to_owned())
}

/// Least, middle and greatest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let median = *values.get(values.len() / 2)?;
        Some(Self { min: *values.first()?, median, max: *values.last()? })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_sorted_and_a_run_has_an_account() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([]), None);
        let (sum, cost) = measured(Who::Own, || Ok((0..100_000u64).sum::<u64>())).unwrap();
        assert_eq!(sum, 4_999_950_000);
        assert!(cost.cpu_seconds() >= 0.0 && cost.wall_seconds > 0.0);
    }
}
