//! Damaged network files: no panic, no change beside an obstacle, nothing left for a second plan.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use config::net::{NetChange, Outcome, Wanted, ifcfg, ifupdown, keyfile, netplan, networkd, suse};
use config::{Files, MemoryFiles};

const WANTED: Wanted<'_> = Wanted { interface: "eth0", kernel_names: true, pinned: &[], ask: true };

const NAMES: [[&str; 2]; 6] = [
    ["/etc/sysconfig/network-scripts/ifcfg-eth0", "/etc/sysconfig/network-scripts/ifcfg-ens3"],
    ["/etc/network/interfaces", "/etc/network/interfaces.d/a"],
    ["/etc/netplan/a.yaml", "/etc/netplan/50-cloud-init.yaml"],
    ["/etc/systemd/network/10-a.network", "/etc/systemd/network/60-eth0.network"],
    ["/etc/NetworkManager/system-connections/a", "/etc/NetworkManager/system-connections/b"],
    ["/etc/sysconfig/network/ifcfg-eth0", "/etc/sysconfig/network/ifcfg-ens3"],
];

fn plan(reader: usize, files: &MemoryFiles) -> Outcome {
    let planned = match reader {
        0 => ifcfg::plan(files, &WANTED, ifcfg::Readers { scripts: true, manager: false }),
        1 => ifupdown::plan(files, &WANTED),
        2 => netplan::plan(files, &WANTED, "networkd"),
        3 => networkd::plan(files, &WANTED),
        4 => keyfile::plan(files, &WANTED),
        _ => suse::plan(files, &WANTED),
    };
    planned.unwrap()
}

/// What the fuzz target checks, too.
fn check(input: &[u8]) {
    let Some((choice, text)) = input.split_first() else { return };
    let reader = usize::from(*choice) % 6;
    let mut files = MemoryFiles::default();
    for (name, part) in NAMES[reader].iter().zip(text.splitn(2, |byte| *byte == 0)) {
        files.put(name, part);
    }
    let shown = String::from_utf8_lossy(text).into_owned();
    let first = plan(reader, &files);
    assert!(first.obstacles.is_empty() || first.changes.is_empty(), "{first:?} for {shown:?}");
    if !first.obstacles.is_empty() {
        return;
    }
    for change in &first.changes {
        match change {
            NetChange::Write { path, text, .. } => files.put(path, text.as_bytes()),
            NetChange::Remove { path, .. } => files.remove(path),
        }
    }
    let second = plan(reader, &files);
    assert!(second.obstacles.is_empty(), "{second:?} after {first:?} for {shown:?}");
    for change in &second.changes {
        // A connection file is written again for its mode alone.
        let NetChange::Write { path, text, why, .. } = change else {
            panic!("{change:?} after {first:?} for {shown:?}");
        };
        let is_same = files.text(path).unwrap().as_ref() == Some(text);
        assert!(why.is_empty() && is_same, "{change:?} after {first:?} for {shown:?}");
    }
}

/// xorshift64: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

#[test]
fn damaged_files_are_planned_once_or_refused() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/fuzz/network");
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(seeds.len() >= 6);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for seed in &seeds {
        check(seed);
        let lines: Vec<&[u8]> = seed[1..].split_inclusive(|byte| *byte == b'\n' || *byte == 0).collect();
        for _ in 0..4000 {
            // Lines left out, doubled and moved: what people and tools do.
            let mut input = vec![seed[0]];
            for line in &lines {
                match numbers.below(6) {
                    0 => {}
                    1 => input.extend([*line, lines[numbers.below(lines.len())]].concat()),
                    _ => input.extend_from_slice(line),
                }
            }
            // And bytes changed, cut and put in.
            for _ in 0..numbers.below(3) {
                let at = 1 + numbers.below(input.len() - 1);
                match numbers.below(3) {
                    0 if at < input.len() => input[at] = b"=[]\n\\\"' #:*0ae\0"[numbers.below(15)],
                    1 => input.truncate(at.max(1)),
                    _ => input.insert(at, b"=[]\n\\\"' #:*0ae\0"[numbers.below(15)]),
                }
                if input.len() < 2 {
                    break;
                }
            }
            check(&input);
        }
    }
}
