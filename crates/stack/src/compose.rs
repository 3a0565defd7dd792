//! One guest tree: find the root filesystem, then mount what the guest's own fstab says.

use std::collections::BTreeMap;
use std::fmt;

use report::{Class, Diagnose};
use serde::Serialize;
use vfs::{DeviceTable, Filesystem, Fstab, FstabEntry, GuestPath, GuestTree, VfsError};

use crate::StackError;

/// An fstab larger than this is none.
const MAX_FSTAB_BYTES: u64 = 1 << 20;
/// Filesystems of a guest at most.
const MAX_MOUNTS: usize = 64;

/// Opens the filesystem of a volume; `Ok(None)` when its content is no filesystem that can be read.
pub(crate) type OpenFilesystem<'a> =
    dyn FnMut(usize, Wanted) -> Result<Option<Box<dyn Filesystem>>, StackError> + 'a;

/// What a filesystem is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Looking for the root.
    Read,
    /// A place that is edited, if the tree is writable at all.
    Full,
    /// Any other place: reading will do where writing is not supported.
    AtLeastRead,
}

/// Places that the guest boots from.
const ESSENTIAL: [&str; 7] =
    ["/boot", "/usr", "/etc", "/lib", "/usr/lib", "/lib/modules", "/usr/lib/modules"];

/// A composed tree.
pub(crate) struct Composed {
    pub tree: GuestTree,
    /// Volume index → where it is mounted.
    pub mounted: BTreeMap<usize, GuestPath>,
    /// What fstab names and is not part of the tree.
    pub unmounted: Vec<Unmounted>,
    /// Lines of fstab, counted from 1, that are no entry.
    pub malformed_lines: Vec<usize>,
}

/// A mount of the guest's fstab that is not part of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmounted {
    /// Line of `/etc/fstab`, counted from 1.
    pub line: usize,
    /// Mount point, lossily printed.
    pub at: String,
    /// Device as fstab names it, lossily printed.
    pub device: String,
    /// Why it is not part of the tree.
    pub reason: String,
    /// Stable code of the reason.
    pub code: &'static str,
}

impl Unmounted {
    /// True when the guest cannot be judged or fixed without it: what boots lies there.
    pub fn is_essential(&self) -> bool {
        self.code != "guest.mount.duplicate" && ESSENTIAL.contains(&&*self.at)
    }
}

impl fmt::Display for Unmounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/etc/fstab line {}: {}: {}", self.line, self.at, self.reason)
    }
}

fn path(text: &str) -> GuestPath {
    GuestPath::root().join(text)
}

/// How much a filesystem looks like a root: 0 to 3.
fn root_score(tree: &GuestTree) -> Result<usize, VfsError> {
    let mut score = 0;
    for marks in [&["/etc/fstab"][..], &["/etc/os-release", "/usr/lib/os-release"], &["/sbin/init"]] {
        for mark in marks {
            match tree.resolve_no_follow(&path(mark)) {
                Ok(_) => {
                    score += 1;
                    break;
                }
                Err(
                    VfsError::NotFound { .. } | VfsError::NotADirectory { .. } | VfsError::SymlinkLoop { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(score)
}

fn read_fstab(tree: &GuestTree) -> Result<Fstab, VfsError> {
    let content = tree.read_if_exists(&path("/etc/fstab"), MAX_FSTAB_BYTES)?;
    Ok(Fstab::parse(&content.unwrap_or_default()))
}

fn device_of(table: &DeviceTable, entry: &FstabEntry) -> Option<usize> {
    table.resolve(std::str::from_utf8(&entry.device).ok()?)
}

/// Index of the volume with the root filesystem.
///
/// The volume with most of `/etc/fstab`, `os-release` and `/sbin/init` is it; among equals the one whose
/// fstab names itself as `/`.
pub(crate) fn find_root(
    table: &DeviceTable,
    name: &dyn Fn(usize) -> String,
    open: &mut OpenFilesystem<'_>,
) -> Result<usize, StackError> {
    let mut best: Vec<(usize, bool)> = Vec::new();
    let mut best_score = 1;
    let mut unreadable = Vec::new();
    let mut first_error = None;
    for (index, volume) in table.volumes.iter().enumerate() {
        let filesystem = match open(index, Wanted::Read) {
            Ok(Some(filesystem)) => filesystem,
            Ok(None) => {
                match volume.content.as_deref() {
                    // Logical volumes say what is on a physical one.
                    None | Some("swap" | "vfat") => {}
                    Some("lvm2-pv") if has_logical(table, index) => {}
                    Some(content) => unreadable.push(format!("{} ({content})", name(index))),
                }
                continue;
            }
            // A broken filesystem matters only when no other one is the root.
            Err(error) => {
                first_error.get_or_insert(error);
                continue;
            }
        };
        let failed = |source| StackError::Filesystem { volume: name(index), source };
        let tree = GuestTree::new(filesystem, name(index));
        let score = root_score(&tree).map_err(failed)?;
        if score < best_score {
            continue;
        }
        if score > best_score {
            best.clear();
            best_score = score;
        }
        let root = path("/");
        let names_itself = read_fstab(&tree)
            .map_err(failed)?
            .entries()
            .any(|entry| entry.mount_point == root.as_bytes() && device_of(table, &entry) == Some(index));
        best.push((index, names_itself));
    }
    if best.len() > 1 {
        let named: Vec<_> = best.iter().filter(|(_, names_itself)| *names_itself).copied().collect();
        if named.len() == 1 {
            best = named;
        }
    }
    if let ([], Some(error)) = (&best[..], first_error) {
        return Err(error);
    }
    match &best[..] {
        [(index, _)] => Ok(*index),
        [] if unreadable.is_empty() => Err(StackError::RootNotFound),
        [] => Err(StackError::RootUnsupported { volumes: unreadable }),
        several => Err(StackError::RootAmbiguous {
            volumes: several.iter().map(|(index, _)| name(*index)).collect(),
        }),
    }
}

/// True when logical volumes that lie on this volume are listed.
fn has_logical(table: &DeviceTable, index: usize) -> bool {
    let logical = table.volumes.iter().filter_map(|volume| volume.logical.as_ref());
    logical.into_iter().any(|logical| logical.on.contains(&index))
}

/// Index of the volume that the user named: a partition number, or anything that fstab could say.
pub(crate) fn choose_root(table: &DeviceTable, root: &str) -> Result<usize, StackError> {
    let by_number = root
        .parse()
        .ok()
        .and_then(|number: u32| table.volumes.iter().position(|volume| volume.is_partition(0, number)));
    by_number.or_else(|| table.resolve(root)).ok_or_else(|| StackError::RootChoice {
        root: root.to_owned(),
        detail: "no such volume in this image".into(),
        class: Class::Usage,
    })
}

/// Mounts the root volume and everything that its fstab names and that can be read.
pub(crate) fn compose(
    table: &DeviceTable,
    root: usize,
    name: &dyn Fn(usize) -> String,
    open: &mut OpenFilesystem<'_>,
) -> Result<Composed, StackError> {
    let failed = |volume: usize| {
        let volume = name(volume);
        move |source| StackError::Filesystem { volume, source }
    };
    let Some(filesystem) = open(root, Wanted::Full)? else {
        let content = table.volumes.get(root).and_then(|volume| volume.content.clone());
        return Err(StackError::RootChoice {
            root: name(root),
            detail: format!("{} is not supported", content.as_deref().unwrap_or("its content")),
            class: Class::Unsupported,
        });
    };
    let mut composed = Composed {
        tree: GuestTree::new(filesystem, name(root)),
        mounted: BTreeMap::from([(root, GuestPath::root())]),
        unmounted: Vec::new(),
        malformed_lines: Vec::new(),
    };
    let fstab = read_fstab(&composed.tree).map_err(failed(root))?;
    composed.malformed_lines = fstab.malformed_lines().collect();
    let mut entries: Vec<(GuestPath, FstabEntry)> =
        fstab.entries().filter_map(|entry| Some((GuestPath::new(&entry.mount_point).ok()?, entry))).collect();
    // Outer mounts first, else in the order of the file.
    entries.sort_by_key(|(at, _)| at.components().count());
    for (at, entry) in entries {
        if let Err((code, reason)) = mount(&mut composed, table, root, &at, &entry, name, open)? {
            composed.unmounted.push(Unmounted {
                line: entry.id.line(),
                at: at.to_string(),
                device: String::from_utf8_lossy(&entry.device).into_owned(),
                reason,
                code,
            });
        }
    }
    attach_esp(&mut composed, table, name, open)?;
    Ok(composed)
}

/// Brings the EFI system partition in where fstab does not: firmware reads it all the same. What is wrong with it is a
/// fact of the firmware's ([`vfs::FirmwareFacts::esp_problem`]).
fn attach_esp(
    composed: &mut Composed,
    table: &DeviceTable,
    name: &dyn Fn(usize) -> String,
    open: &mut OpenFilesystem<'_>,
) -> Result<(), StackError> {
    let Some(number) = table.firmware.esp_partition else { return Ok(()) };
    let found = table.volumes.iter().position(|volume| volume.partition == Some(number));
    let Some(index) = found.filter(|index| !composed.mounted.contains_key(index)) else { return Ok(()) };
    let filesystem = match open(index, Wanted::AtLeastRead) {
        Ok(Some(filesystem)) => filesystem,
        Ok(None) => return Ok(()),
        Err(error) if matches!(error.class(), Class::Damaged | Class::Unsupported) => return Ok(()),
        Err(error) => return Err(error),
    };
    let at = path(vfs::DETACHED_ESP);
    match composed.tree.attach(&at, filesystem, name(index)) {
        Ok(()) => {
            composed.mounted.insert(index, at);
            Ok(())
        }
        Err(VfsError::WrongKind { .. }) => Ok(()),
        Err(source) => Err(StackError::Filesystem { volume: name(index), source }),
    }
}

/// Mounts one entry, or says with a code why not.
fn mount(
    composed: &mut Composed,
    table: &DeviceTable,
    root: usize,
    at: &GuestPath,
    entry: &FstabEntry,
    name: &dyn Fn(usize) -> String,
    open: &mut OpenFilesystem<'_>,
) -> Result<Result<(), (&'static str, String)>, StackError> {
    let not = |code, reason: String| Ok(Err((code, reason)));
    let Some(index) = device_of(table, entry) else {
        if entry.has_option("bind") || entry.has_option("rbind") {
            return not("guest.mount.bind", "bind mounts are not followed".into());
        }
        let device = String::from_utf8_lossy(&entry.device);
        if names_a_device(&device) {
            return not("guest.mount.no-device", format!("{device} is not in this image, not mounted"));
        }
        return Ok(Ok(()));
    };
    let volume = name(index);
    match composed.mounted.get(&index) {
        Some(place) if place == at => return Ok(Ok(())),
        Some(place) => {
            let reason = format!("{volume} is mounted at {place} already, not mounted a second time");
            return not("guest.mount.duplicate", reason);
        }
        None if at.is_root() => {
            let reason = format!("names {volume} as root, the root filesystem was found on {}", name(root));
            return not("guest.mount.other-root", reason);
        }
        None if composed.mounted.len() >= MAX_MOUNTS => {
            return not("guest.mount.limit", format!("more than {MAX_MOUNTS} filesystems, not mounted"));
        }
        None => {}
    }
    let is_essential = ESSENTIAL.iter().any(|essential| at.as_bytes() == essential.as_bytes());
    let filesystem = match open(index, if is_essential { Wanted::Full } else { Wanted::AtLeastRead }) {
        Ok(Some(filesystem)) => filesystem,
        Ok(None) => {
            let content = table.volumes.get(index).and_then(|volume| volume.content.as_deref());
            let content = content.unwrap_or("unknown content");
            return not(
                "guest.mount.unsupported",
                format!("{volume} ({content}) is not readable yet, not mounted"),
            );
        }
        Err(error) if matches!(error.class(), Class::Damaged | Class::Unsupported) => {
            return not(error.code(), format!("{error}, not mounted"));
        }
        Err(error) => return Err(error),
    };
    match composed.tree.mount(at, filesystem, volume.clone()) {
        Ok(()) => {
            composed.mounted.insert(index, at.clone());
            Ok(Ok(()))
        }
        Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. } | VfsError::SymlinkLoop { .. }) => {
            not(
                "guest.mount.no-mount-point",
                format!("the mount point is no directory, {volume} not mounted"),
            )
        }
        Err(source) => Err(StackError::Filesystem { volume, source }),
    }
}

/// False for `proc`, `tmpfs`, `server:/path`, `//server/share` and the like.
fn names_a_device(device: &str) -> bool {
    let is_tag = device.split_once('=').is_some_and(|(key, _)| {
        ["UUID", "LABEL", "PARTUUID", "PARTLABEL", "ID"].iter().any(|known| key.eq_ignore_ascii_case(known))
    });
    is_tag || device.starts_with("/dev/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::DirFs;
    use vfs::{TableKind, Volume};

    struct Disk {
        table: DeviceTable,
        filesystems: Vec<Option<DirFs>>,
    }

    impl Disk {
        fn new(volumes: Vec<(&str, Option<DirFs>)>) -> Self {
            let table = DeviceTable {
                table: TableKind::Gpt,
                volumes: volumes
                    .iter()
                    .zip(1..)
                    .map(|((content, _), number)| Volume {
                        partition: Some(number),
                        content: Some((*content).into()),
                        uuid: Some(format!("uuid-{number}")),
                        label: Some(format!("label {number}")),
                        partuuid: Some(format!("part-{number}")),
                        ..Volume::default()
                    })
                    .collect(),
                ..DeviceTable::default()
            };
            Self { table, filesystems: volumes.into_iter().map(|(_, filesystem)| filesystem).collect() }
        }

        fn root(&self) -> Result<usize, StackError> {
            find_root(&self.table, &name, &mut |index, _| Ok(self.open(index)))
        }

        fn open(&self, index: usize) -> Option<Box<dyn Filesystem>> {
            self.filesystems[index].clone().map(|filesystem| Box::new(filesystem) as Box<dyn Filesystem>)
        }

        fn compose(&self) -> Composed {
            let root = self.root().unwrap();
            compose(&self.table, root, &name, &mut |index, _| Ok(self.open(index))).unwrap()
        }
    }

    fn name(index: usize) -> String {
        format!("partition {}", index + 1)
    }

    fn root_with(fstab: &str) -> DirFs {
        let mut filesystem = DirFs::from_files([("/etc/fstab", fstab), ("/etc/os-release", "ID=debian\n")]);
        filesystem.add_symlink("/sbin/init", "/lib/systemd/systemd");
        for dir in ["/boot", "/srv/my data", "/proc"] {
            filesystem.add_dir(dir);
        }
        filesystem
    }

    #[test]
    fn every_way_to_name_a_device_and_nested_mounts() {
        let fstab = "UUID=uuid-1 / ext4 defaults 0 1\n\
            /dev/disk/by-label/label\\x204 /boot/deep/er ext4 defaults 0 2\n\
            LABEL=\"label\\0403\" /boot/deep ext4 defaults 0 2\n\
            PARTUUID=part-2 /boot ext4 defaults 0 2\n\
            /dev/sda5 /srv/my\\040data ext4 noatime\n";
        let disk = Disk::new(vec![
            ("ext4", Some(root_with(fstab))),
            ("ext4", Some(DirFs::from_files([("/vmlinuz", "2"), ("/deep/under", "hidden")]))),
            ("ext4", Some(DirFs::from_files([("/file", "3"), ("/er/under", "hidden")]))),
            ("ext4", Some(DirFs::from_files([("/file", "4")]))),
            ("ext4", Some(DirFs::from_files([("/file", "5")]))),
        ]);
        let composed = disk.compose();
        assert_eq!((composed.unmounted, composed.malformed_lines), (vec![], vec![]));
        for (file, content) in [
            ("/boot/vmlinuz", "2"),
            ("/boot/deep/file", "3"),
            ("/boot/deep/er/file", "4"),
            ("/srv/my data/file", "5"),
        ] {
            assert_eq!(composed.tree.read(&path(file), 100).unwrap(), content.as_bytes(), "{file}");
        }
        assert!(!composed.tree.exists(&path("/boot/deep/under")).unwrap());
    }

    #[test]
    fn what_is_not_mounted_is_noted() {
        let fstab = "UUID=uuid-1 / ext4\nproc /proc proc\nUUID=gone /srv ext4\nnonsense\n\
            UUID=uuid-2 /boot xfs\nUUID=uuid-3 /missing ext4\nUUID=uuid-1 /srv/my\\040data ext4\n\
            /boot /srv none bind\nserver:/x /srv nfs\nUUID=uuid-2 none swap\n";
        let disk = Disk::new(vec![
            ("ext4", Some(root_with(fstab))),
            ("xfs", None),
            ("ext4", Some(DirFs::from_files([("/file", "3")]))),
        ]);
        let composed = disk.compose();
        assert_eq!(
            composed.unmounted.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "/etc/fstab line 3: /srv: UUID=gone is not in this image, not mounted",
                "/etc/fstab line 5: /boot: partition 2 (xfs) is not readable yet, not mounted",
                "/etc/fstab line 6: /missing: the mount point is no directory, partition 3 not mounted",
                "/etc/fstab line 8: /srv: bind mounts are not followed",
                "/etc/fstab line 7: /srv/my data: partition 1 is mounted at / already, not mounted a second time",
            ]
        );
        assert_eq!((composed.mounted.len(), &composed.malformed_lines[..]), (1, &[4][..]));
        let essential: Vec<_> = composed.unmounted.iter().filter(|one| one.is_essential()).collect();
        assert_eq!((essential.len(), essential[0].line), (1, 5));
    }

    #[test]
    fn the_root_is_found_or_named_or_refused() {
        let data = || Some(DirFs::from_files([("/home/a", "1")]));
        let found = Disk::new(vec![("ext4", data()), ("swap", None), ("ext4", Some(root_with("")))]);
        assert_eq!(found.root().unwrap(), 2);

        let two = Disk::new(vec![("ext4", Some(root_with(""))), ("ext4", Some(root_with("")))]);
        assert!(matches!(two.root(), Err(StackError::RootAmbiguous { volumes }) if volumes.len() == 2));
        assert_eq!(choose_root(&two.table, "2").unwrap(), 1);
        assert_eq!(choose_root(&two.table, "UUID=uuid-1").unwrap(), 0);
        assert!(choose_root(&two.table, "7").is_err());

        let one_names_itself =
            Disk::new(vec![("ext4", Some(root_with(""))), ("ext4", Some(root_with("UUID=uuid-2 / ext4\n")))]);
        assert_eq!(one_names_itself.root().unwrap(), 1);

        let lvm = Disk::new(vec![("ext4", data()), ("lvm2-pv", None), ("vfat", None)]);
        match lvm.root() {
            Err(StackError::RootUnsupported { volumes }) => assert_eq!(volumes, ["partition 2 (lvm2-pv)"]),
            other => panic!("{other:?}"),
        }
        assert!(matches!(Disk::new(vec![("ext4", data())]).root(), Err(StackError::RootNotFound)));
    }
}
