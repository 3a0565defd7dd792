//! Run time without the hours between two runs of one report.

use crate::Line;

/// Times in which images ran, joined, in order.
pub(super) struct Timeline {
    busy: Vec<(f64, f64)>,
}

impl Timeline {
    pub fn new(lines: &[&Line]) -> Self {
        let is_time =
            |line: &&&Line| line.started_at.is_finite() && line.seconds.is_finite() && line.seconds >= 0.0;
        let mut spans: Vec<(f64, f64)> = lines
            .iter()
            .filter(is_time)
            .map(|line| (line.started_at, line.started_at + line.seconds))
            .collect();
        spans.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut busy: Vec<(f64, f64)> = Vec::new();
        for (from, to) in spans {
            match busy.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => busy.push((from, to)),
            }
        }
        Self { busy }
    }

    /// All run time.
    pub fn seconds(&self) -> f64 {
        self.busy.iter().map(|(from, to)| to - from).sum()
    }

    /// Run time before a moment.
    pub fn before(&self, moment: f64) -> f64 {
        self.busy.iter().take_while(|(from, _)| *from < moment).map(|(from, to)| to.min(moment) - from).sum()
    }
}
