//! Connectivity and link counts.

use std::collections::BTreeMap;

use vfs::FileKind;

use super::Checker;
use super::notes::State;
use crate::feature::RoCompat;
use crate::inode::ROOT_INODE;

/// Links that a directory shows when it has more than fit (`dir_nlink`).
const MANY_LINKS: u16 = 1;
const MAX_LINKS: u32 = 65_000;

/// Where a directory hangs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DirectoryLinks {
    /// Directory that has a name for this one.
    pub(super) named_in: Option<u32>,
    /// What `..` says.
    pub(super) dot_dot: Option<u32>,
}

/// All directories by inode number.
#[derive(Default)]
pub(super) struct Directories {
    links: BTreeMap<u32, DirectoryLinks>,
}

impl Directories {
    pub(super) fn add(&mut self, number: u32) {
        self.links.insert(number, DirectoryLinks::default());
    }

    pub(super) fn numbers(&self) -> Vec<u32> {
        self.links.keys().copied().collect()
    }

    pub(super) fn set_dot_dot(&mut self, number: u32, parent: u32) {
        self.links.entry(number).or_default().dot_dot = Some(parent);
    }

    /// Remembers a name; `false` when the directory has another one already.
    pub(super) fn set_parent(&mut self, number: u32, parent: u32) -> bool {
        self.links.entry(number).or_default().named_in.replace(parent).is_none()
    }
}

impl Checker<'_> {
    /// Compares names found with link counts, and `..` with the directory that has the name.
    pub(super) fn check_links(&mut self) {
        self.check_attribute_references();
        self.check_connectivity();
        let (last_orphan, has_present) =
            (self.superblock.last_orphan(), self.has_ro_compat(RoCompat::ORPHAN_PRESENT));
        if last_orphan != 0 || has_present {
            self.report.add("ext4.check.orphans", "superblock", "orphans wait to be processed");
        }
        let per_group = self.superblock.inodes_per_group();
        for group in 0..self.superblock.groups() {
            for index in 0..self.inodes.group(group).len() as u32 {
                self.check_link_count(group * per_group + index + 1);
            }
        }
    }

    fn check_link_count(&mut self, number: u32) {
        let note = self.inodes.get(number);
        let place = format_args!("inode {number}").to_string();
        match note.state {
            State::Free | State::Reserved => {}
            State::AttributeValue => {
                if !self.value_references.contains_key(&number) {
                    self.report.add(
                        "ext4.check.attribute.references",
                        place,
                        "a value that no attribute names",
                    );
                }
            }
            State::Used(_) if note.found == 0 && number != ROOT_INODE => {
                self.report.add("ext4.check.links.lost", place, "in use without a name");
            }
            State::Used(kind) => {
                let is_right = u32::from(note.declared) == note.found
                    || kind == Some(FileKind::Directory)
                        && note.declared == MANY_LINKS
                        && note.found > MAX_LINKS
                        && self.has_ro_compat(RoCompat::DIR_NLINK);
                if !is_right {
                    self.report.add(
                        "ext4.check.links.count",
                        place,
                        format_args!("{} links, but {} names", note.declared, note.found),
                    );
                }
            }
        }
    }

    fn check_connectivity(&mut self) {
        let links = std::mem::take(&mut self.directories.links);
        // Directories known to hang below the root.
        let mut connected: BTreeMap<u32, bool> = BTreeMap::from([(ROOT_INODE, true)]);
        for (number, entry) in &links {
            let place = format!("directory {number}");
            if *number == ROOT_INODE {
                if entry.dot_dot.is_some_and(|parent| parent != ROOT_INODE) {
                    self.report.add(
                        "ext4.check.directory.parent",
                        &place,
                        "the root's .. is another directory",
                    );
                }
                continue;
            }
            if let (Some(dot_dot), Some(parent)) = (entry.dot_dot, entry.named_in)
                && dot_dot != parent
            {
                self.report.add(
                    "ext4.check.directory.parent",
                    &place,
                    format_args!(".. is {dot_dot}, but the name is in {parent}"),
                );
            }
            let mut path = Vec::new();
            let mut at = *number;
            let is_connected = loop {
                if let Some(known) = connected.get(&at) {
                    break *known;
                }
                connected.insert(at, false); // Met again on this walk: a loop.
                path.push(at);
                match links.get(&at).and_then(|entry| entry.named_in) {
                    Some(parent) => at = parent,
                    None => break false,
                }
            };
            for number in path {
                connected.insert(number, is_connected);
            }
            // A directory without any name is reported with the link counts.
            if !is_connected && entry.named_in.is_some() {
                self.report.add("ext4.check.directory.unconnected", &place, "not reachable from the root");
            }
        }
        let lost_values: Vec<u32> = self
            .value_references
            .keys()
            .copied()
            .filter(|number| self.inodes.get(*number).state != State::AttributeValue)
            .collect();
        for number in lost_values {
            self.report.add(
                "ext4.check.attribute.references",
                format_args!("inode {number}"),
                "an attribute names it as its value, but it holds none",
            );
        }
    }
}
