#![no_main]
//! Any network configuration, the first byte choosing its reader: a plan that is carried out leaves nothing for a
//! second one, and no plan is made beside an obstacle.

use config::MemoryFiles;
use config::net::{NetChange, Outcome, Wanted, ifcfg, ifupdown, keyfile, netplan, networkd, suse};
use libfuzzer_sys::fuzz_target;

const WANTED: Wanted<'_> = Wanted { interface: "eth0", kernel_names: true, pinned: &[], ask: true };

fn plan(reader: u8, files: &MemoryFiles) -> Outcome {
    let readers = ifcfg::Readers { scripts: true, manager: false };
    let planned = match reader {
        0 => ifcfg::plan(files, &WANTED, readers),
        1 => ifupdown::plan(files, &WANTED),
        2 => netplan::plan(files, &WANTED, "networkd"),
        3 => networkd::plan(files, &WANTED),
        4 => keyfile::plan(files, &WANTED),
        _ => suse::plan(files, &WANTED),
    };
    planned.expect("files in memory are read")
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, text)) = input.split_first() else { return };
    let reader = choice % 6;
    let names = match reader {
        0 => ["/etc/sysconfig/network-scripts/ifcfg-eth0", "/etc/sysconfig/network-scripts/ifcfg-ens3"],
        1 => ["/etc/network/interfaces", "/etc/network/interfaces.d/a"],
        2 => ["/etc/netplan/a.yaml", "/etc/netplan/50-cloud-init.yaml"],
        3 => ["/etc/systemd/network/10-a.network", "/etc/systemd/network/60-eth0.network"],
        4 => ["/etc/NetworkManager/system-connections/a", "/etc/NetworkManager/system-connections/b"],
        _ => ["/etc/sysconfig/network/ifcfg-eth0", "/etc/sysconfig/network/ifcfg-ens3"],
    };
    let mut files = MemoryFiles::default();
    for (name, part) in names.iter().zip(text.splitn(2, |byte| *byte == 0)) {
        files.put(name, part);
    }
    let first = plan(reader, &files);
    assert!(first.obstacles.is_empty() || first.changes.is_empty());
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
    assert!(second.obstacles.is_empty(), "{second:?} after {first:?}");
    for change in &second.changes {
        // A connection file is written again for its mode alone.
        let NetChange::Write { path, text, why, .. } = change else { panic!("{change:?} after {first:?}") };
        let now = config::Files::text(&files, path).expect("in memory");
        assert!(why.is_empty() && now.as_ref() == Some(text), "{change:?} after {first:?}");
    }
});
