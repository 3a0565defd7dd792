//! A disk map as inline SVG: what is stored, what is free inside, what changed, and the partitions below.

use std::fmt::Write;

use super::html::{bytes, escape};
use crate::DiskMap;

/// Partitions drawn at most.
const VOLUMES_MAX: usize = 64;
/// Height of the map and of the strip of partitions.
const MAP: f64 = 15.0;
const STRIP_TOP: f64 = 17.0;
const STRIP: f64 = 4.0;

/// The map, at most `buckets` wide.
pub(super) fn svg(map: &DiskMap, buckets: usize) -> String {
    let data = levels(&map.data, buckets);
    let width = data.len().max(1);
    let mut svg = format!(
        "<svg class=\"disk\" viewBox=\"0 0 {width} 21\" preserveAspectRatio=\"none\" role=\"img\"><title>{}</title>\
         <path class=\"d-free\" d=\"M0 0H{width}V15H0z\"/>",
        escape(&words(map))
    );
    let mut area = |class: &str, levels: &[u32]| {
        if levels.iter().any(|level| *level > 0) {
            let _ = write!(svg, "<path class=\"{class}\" d=\"{}\"/>", steps(levels));
        }
    };
    area("d-data", &data);
    area("d-unused", &levels(&map.free, buckets));
    area("d-changed", &levels(&map.changed, buckets));
    let scale = |at: u64| {
        if map.bytes == 0 { 0.0 } else { at.min(map.bytes) as f64 / map.bytes as f64 * width as f64 }
    };
    for volume in map.volumes.iter().take(VOLUMES_MAX) {
        let (start, end) = (scale(volume.start), scale(volume.start.saturating_add(volume.bytes)));
        // A gap between neighbours.
        let whole = (end - start - 0.3).max(0.2);
        let free = volume.free_bytes.unwrap_or(0).min(volume.bytes) as f64 / volume.bytes.max(1) as f64;
        let _ = write!(
            svg,
            "<rect class=\"d-room\" x=\"{start:.2}\" y=\"{STRIP_TOP}\" width=\"{whole:.2}\" height=\"{STRIP}\"/>\
             <rect class=\"d-volume\" x=\"{start:.2}\" y=\"{STRIP_TOP}\" width=\"{:.2}\" height=\"{STRIP}\"/>",
            whole * (1.0 - free)
        );
    }
    svg.push_str("</svg>");
    svg
}

/// The map in words: what a screen reader says.
pub(super) fn words(map: &DiskMap) -> String {
    let mut text = format!("{} disk, {} stored", bytes(map.bytes), bytes(map.data_bytes));
    if map.changed_bytes > 0 {
        let _ = write!(text, ", {} changed", bytes(map.changed_bytes));
    }
    for volume in map.volumes.iter().take(VOLUMES_MAX) {
        let _ = write!(text, "; {} {}", volume.name, bytes(volume.bytes));
        for what in [&volume.content, &volume.mounted_at].into_iter().flatten() {
            let _ = write!(text, " {what}");
        }
        if let Some(free) = volume.free_bytes {
            let _ = write!(text, ", {} free", bytes(free));
        }
    }
    text
}

/// Digits as levels from 0 to 15, neighbours joined until they fit; the highest of them counts.
fn levels(digits: &str, buckets: usize) -> Vec<u32> {
    let all: Vec<u32> = digits.chars().take(1024).map(|digit| digit.to_digit(16).unwrap_or(0)).collect();
    let join = all.len().div_ceil(buckets.max(1)).max(1);
    all.chunks(join).map(|group| group.iter().copied().max().unwrap_or(0)).collect()
}

/// One outline over all levels, equal neighbours joined.
fn steps(levels: &[u32]) -> String {
    let mut path = format!("M0 {MAP}");
    for run in levels.chunk_by(|one, other| one == other) {
        let _ = write!(path, "V{}h{}", MAP - f64::from(run[0]), run.len());
    }
    path.push_str("V15z");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined() {
        assert_eq!(levels("01ff", 2), [1, 15]);
        assert_eq!(levels("0x1", 9), [0, 0, 1]);
        assert_eq!(steps(&[0, 0, 15, 3]), "M0 15V15h2V0h1V12h1V15z");
    }
}
