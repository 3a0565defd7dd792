//! Rules on partitions, sizes, filesystems and firmware, on phony guests and disks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use cloudspec::Severity;
use coldfit_fixes::{Finding, Plan, Selection, State, plan};
use support::*;
use testkit::DirFs;
use vfs::{DeviceTable, DiskEdit, EfiFile, EfiMachine, EfiProgram, TableKind, Volume};

const GIB: u64 = 1 << 30;

fn look(fs: DirFs, table: &DeviceTable, kind: &str, values: &str) -> Plan {
    let tree = fs.into_tree();
    let model = guest::inspect(&tree, table).unwrap();
    plan(&tree, table, &model, &profile_of(kind, values), &Selection::default()).unwrap()
}

fn one(table: &DeviceTable, kind: &str, values: &str) -> Finding {
    look(guest(), table, kind, values).findings.remove(0)
}

fn edits(planned: &Plan) -> Vec<DiskEdit> {
    planned.disk_edits.iter().map(|planned| planned.edit).collect()
}

/// A GPT disk with these contents, in this order; the first `ext4` is the root.
fn gpt(contents: &[&str]) -> DeviceTable {
    let mut volumes: Vec<Volume> =
        contents.iter().zip(1..).map(|(content, number)| volume(number, content, None)).collect();
    for volume in &mut volumes {
        volume.is_logical = false;
    }
    if let Some(root) = volumes.iter_mut().find(|volume| volume.content.as_deref() == Some("ext4")) {
        root.uuid = Some(ROOT.into());
    }
    DeviceTable {
        table: TableKind::Gpt,
        volumes,
        disk_len: 20 * GIB,
        sector_size: 512,
        ..DeviceTable::default()
    }
}

#[test]
fn root_is_the_last_partition_by_its_end() {
    let holds = one(&gpt(&["vfat", "ext4"]), "root-last", "");
    assert_eq!(holds.state, State::Holds, "{holds:?}");
    // The number of a partition says nothing of its place.
    let mut table = gpt(&["ext4", "vfat"]);
    table.volumes[0].start = 100 << 20;
    assert_eq!(one(&table, "root-last", "").state, State::Holds);

    let behind = one(&gpt(&["ext4", "swap", "xfs"]), "root-last", "");
    assert_eq!(behind.state, State::NeedsAction);
    assert!(
        behind.evidence[0].contains("partition 2 (swap)") && behind.evidence[1].contains("partition 3 (xfs)")
    );
    assert!(behind.remedy.unwrap().contains("partition 3 (xfs)"));
    let mut elsewhere = gpt(&["xfs"]);
    elsewhere.volumes[0].uuid = None;
    assert_eq!(one(&elsewhere, "root-last", "").state, State::NotApplicable);
}

#[test]
fn a_swap_partition_is_removed_only_when_told_so() {
    let table = gpt(&["ext4", "swap"]);
    let kept = look(guest(), &table, "no-swap-partition", "partition = \"keep\"\nremedy = \"say remove\"");
    assert_eq!(kept.findings[0].state, State::NeedsAction);
    assert_eq!(kept.findings[0].remedy.as_deref(), Some("say remove"));
    assert!(kept.disk_edits.is_empty());
    let gone = look(guest(), &table, "no-swap-partition", "partition = \"remove\"");
    assert_eq!(
        (gone.findings[0].state, edits(&gone)),
        (State::Fixable, vec![DiskEdit::RemovePartition { number: 2 }])
    );
    assert_eq!(one(&gpt(&["ext4"]), "no-swap-partition", "partition = \"remove\"").state, State::Holds);
    // By its type, when nothing is in it.
    let mut empty = gpt(&["ext4", "x"]);
    empty.volumes[1].content = None;
    empty.volumes[1].type_code = Some("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f".into());
    assert_eq!(one(&empty, "no-swap-partition", "partition = \"remove\"").state, State::Fixable);
}

#[test]
fn logical_swap_goes_from_the_back_and_renumbers_nobody() {
    let remove = "partition = \"remove\"";
    // 1 is the root; 5 and 6 are logical and both swap.
    let gone = look(guest(), &devices(), "no-swap-partition", remove);
    let numbers = [6, 5].map(|number| DiskEdit::RemovePartition { number });
    assert_eq!((gone.findings[0].state, edits(&gone)), (State::Fixable, numbers.to_vec()));
    let mut table = devices();
    table.volumes[2].content = Some("ext4".into());
    let kept = look(guest(), &table, "no-swap-partition", remove);
    assert_eq!((kept.findings[0].state, edits(&kept)), (State::NeedsAction, vec![]));
    assert!(kept.findings[0].evidence[0].contains("partition 6 (ext4)"), "{:?}", kept.findings);
    let mut hybrid = gpt(&["ext4", "swap"]);
    hybrid.table = TableKind::HybridGpt;
    assert_eq!(one(&hybrid, "no-swap-partition", remove).state, State::NeedsAction);
}

#[test]
fn with_the_swap_partition_gone_root_is_the_last_one() {
    let text = "schema = 1\nid = \"test\"\ntitle = \"test\"\n\
        [[rule]]\nid = \"a\"\nkind = \"no-swap-partition\"\nseverity = \"must\"\nsummary = \"s\"\nsource = \"s\"\n\
        date = \"2026-11-24\"\npartition = \"remove\"\n\
        [[rule]]\nid = \"b\"\nkind = \"root-last\"\nseverity = \"must\"\nsummary = \"s\"\nsource = \"s\"\ndate = \"2026-11-24\"\n\
        [[rule]]\nid = \"c\"\nkind = \"only-root-partition\"\nseverity = \"must\"\nsummary = \"s\"\nsource = \"s\"\n\
        date = \"2026-11-24\"\n";
    let profile = cloudspec::Profile::parse(text, "test").unwrap();
    let states = |table: &DeviceTable| {
        let tree = guest().into_tree();
        let model = guest::inspect(&tree, table).unwrap();
        let planned = plan(&tree, table, &model, &profile, &Selection::default()).unwrap();
        planned.findings.iter().map(|finding| finding.state).collect::<Vec<_>>()
    };
    assert_eq!(states(&gpt(&["ext4", "swap"])), [State::Fixable; 3]);
    assert_eq!(states(&gpt(&["ext4"])), [State::Holds; 3]);
    assert_eq!(
        states(&gpt(&["ext4", "swap", "xfs"])),
        [State::Fixable, State::NeedsAction, State::NeedsAction]
    );
}

#[test]
fn logical_containers_and_tables() {
    assert_eq!(one(&devices(), "primary-partitions", "").state, State::Holds);
    let mut table = devices();
    table.volumes[0].is_logical = true;
    assert_eq!(one(&table, "primary-partitions", "").state, State::NeedsAction);

    assert_eq!(one(&devices(), "plain-partitions", "").state, State::Holds);
    for container in ["lvm2-pv", "luks", "md-raid"] {
        let found = one(&gpt(&["ext4", container]), "plain-partitions", "");
        assert_eq!(found.state, State::NeedsAction);
        assert!(found.evidence[0].contains(&format!("partition 2 ({container})")));
    }
    let mut mapped = guest();
    mapped.add_file("/etc/fstab", "/dev/mapper/vg-root / ext4 defaults 0 1\n");
    let found = look(mapped, &devices(), "plain-partitions", "").findings.remove(0);
    assert!(found.evidence[0].starts_with("/etc/fstab:1: /dev/mapper/vg-root"), "{found:?}");

    assert_eq!(one(&devices(), "partition-table", "allowed = [\"mbr\"]").state, State::Holds);
    assert_eq!(one(&gpt(&["ext4"]), "partition-table", "allowed = [\"mbr\"]").state, State::NeedsAction);
    assert_eq!(one(&gpt(&["ext4"]), "partition-table", "allowed = [\"mbr\", \"gpt\"]").state, State::Holds);

    let mut esp = gpt(&["vfat", "ext4"]);
    esp.volumes[0].type_code = Some("c12a7328-f81f-11d2-ba4b-00a0c93ec93b".into());
    assert_eq!(one(&esp, "only-root-partition", "").state, State::Holds);
    assert_eq!(one(&gpt(&["xfs", "ext4"]), "only-root-partition", "").state, State::NeedsAction);
}

#[test]
fn a_small_disk_grows_and_a_large_one_is_named() {
    let bounds = "minimum = 20\nwarn-above = 500\nmaximum = 2048";
    let of = |len: u64| {
        let table = DeviceTable { disk_len: len, ..devices() };
        look(guest(), &table, "disk-size", bounds)
    };
    let small = of(20 * GIB - 512);
    assert_eq!(
        (small.findings[0].state, edits(&small)),
        (State::Fixable, vec![DiskEdit::Grow { to: 20 * GIB }])
    );
    for (gib, state, severity) in [
        (20, State::Holds, Severity::Must),
        (500, State::Holds, Severity::Must),
        (501, State::NeedsAction, Severity::Optional),
        (2048, State::NeedsAction, Severity::Optional),
        (2049, State::NeedsAction, Severity::Must),
    ] {
        let planned = of(gib * GIB);
        let finding = &planned.findings[0];
        assert_eq!((finding.state, finding.severity), (state, severity), "{gib}");
        assert!(planned.disk_edits.is_empty());
    }
}

#[test]
fn kinds_of_filesystems() {
    let allowed = "allowed = [\"ext4\", \"xfs\"]";
    assert_eq!(one(&devices(), "filesystems", allowed).state, State::Holds);
    let mut fs = guest();
    fs.add_file(
        "/etc/fstab",
        "/dev/sda1 / ext4\n/dev/sda5 none swap\n/dev/sda6 /srv btrfs\nproc /proc proc\n",
    );
    let mut table = devices();
    table.volumes[2].content = Some("btrfs".into());
    let found = look(fs, &table, "filesystems", allowed).findings.remove(0);
    assert_eq!(found.state, State::NeedsAction);
    assert_eq!(found.evidence.len(), 1);
    assert!(found.evidence[0].contains("/srv on partition 6 (btrfs) is btrfs"), "{found:?}");
}

#[test]
fn a_full_filesystem_is_named() {
    let limits = "bytes-percent = 90\ninodes-percent = 90";
    assert_eq!(one(&devices(), "usage", limits).state, State::Holds);
    let mut fs = guest();
    fs.limit_free_bytes(0);
    let found = look(fs, &devices(), "usage", limits).findings.remove(0);
    assert_eq!(found.state, State::NeedsAction);
    assert!(found.evidence[0].contains("100 % of the bytes"), "{found:?}");
}

#[test]
fn the_declared_boot_mode_is_held_against_the_contents() {
    let values = |mode: &str| format!("mode = \"{mode}\"\nuefi-only = [\"aarch64\"]");
    let mut table = devices();
    table.firmware.mbr_boot_code = Some("grub".into());
    let state = |table: &DeviceTable, mode: &str| one(table, "boot-mode", &values(mode)).state;
    for (mode, expected) in [
        ("auto", State::Holds),
        ("bios", State::Holds),
        ("uefi", State::NeedsAction),
        ("uefi-preferred", State::NeedsAction),
    ] {
        assert_eq!(state(&table, mode), expected, "{mode}");
    }
    table.firmware.esp_partition = Some(15);
    table.firmware.efi_files = Some(vec![EfiFile {
        path: "EFI/BOOT/BOOTX64.EFI".into(),
        machine: Some(EfiMachine::X64),
        program: Some(EfiProgram::GrubWithConfig),
        grub_prefix: None,
    }]);
    for mode in ["auto", "bios", "uefi", "uefi-preferred"] {
        assert_eq!(state(&table, mode), State::Holds, "{mode}");
    }
    table.firmware.mbr_boot_code = None;
    assert_eq!(state(&table, "auto"), State::Holds);
    assert_eq!(state(&table, "uefi-preferred"), State::NeedsAction);
    table.firmware.efi_files = Some(Vec::new());
    let none = one(&table, "boot-mode", &values("auto"));
    assert_eq!(none.state, State::NeedsAction);
    assert!(none.evidence.iter().any(|line| line.contains("boot.firmware.no-fallback")), "{none:?}");
}
