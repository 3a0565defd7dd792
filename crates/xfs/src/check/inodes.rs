//! One inode: its forks, what they map, its attributes.

use super::owners::Use;
use super::{Check, Note};
use crate::alloc::rmap::Owner;
use crate::attr::PARENT;
use crate::feature::Incompat;
use crate::inode::{Fork, Format, Inode};

/// A sum that tells sets of parent pointers apart, whatever their order.
pub(super) fn pointer_sum(dir: u64, generation: u32, name: &[u8]) -> u64 {
    let mix = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let start = 0xcbf2_9ce4_8422_2325;
    let bytes = dir.to_be_bytes().into_iter().chain(generation.to_be_bytes()).chain(name.iter().copied());
    bytes.fold(start, mix)
}

impl Check<'_> {
    pub(super) fn inode(&mut self, number: u64, is_free: bool) {
        let place = format!("inode {number}");
        let Some(inode) = self.take(&place, self.fs.read_inode(number)) else { return };
        if is_free {
            if inode.mode() != 0 || inode.links() != 0 || inode.blocks() != 0 {
                self.report.add("xfs.check.inode-free", &place, "marked as free, and in use");
            }
            return;
        }
        if inode.mode() == 0 || inode.kind().is_none() || inode.links() == 0 {
            let (mode, links) = (inode.mode(), inode.links());
            let internal = self.fs.superblock().is_internal_inode(number);
            if !internal {
                self.report.add("xfs.check.inode", &place, format_args!("mode {mode:#o}, {links} links"));
            }
            return;
        }
        self.report.inodes_in_use += 1;
        let has_attrs = inode.fork_offset() != 0;
        if !has_attrs && (inode.format(Fork::Attr) != Format::Extents || inode.extent_count(Fork::Attr) != 0)
        {
            self.report.add("xfs.check.fork", &place, "an attribute fork without a place");
        }
        let mut blocks = self.fork(&inode, Fork::Data);
        if has_attrs {
            blocks += self.fork(&inode, Fork::Attr);
        }
        if blocks != inode.blocks() {
            self.report.add(
                "xfs.check.blocks",
                &place,
                format_args!("{} blocks, {blocks} found", inode.blocks()),
            );
        }
        let mut note = Note { links: inode.links(), mode: inode.mode(), ..Note::default() };
        if let Some(attrs) = self.take(&place, self.fs.read_attrs(&inode)) {
            for attr in attrs.iter().filter(|attr| attr.space == PARENT) {
                let (dir, generation) =
                    (ondisk::try_be_u64(&attr.value, 0), ondisk::try_be_u32(&attr.value, 8));
                let (Some(dir), Some(generation)) = (dir, generation) else { continue };
                note.pointers.0 = note.pointers.0.wrapping_add(pointer_sum(dir, generation, &attr.name));
            }
        }
        match inode.kind() {
            Some(vfs::FileKind::Symlink) => drop(self.take(&place, self.fs.symlink_target(&inode))),
            Some(vfs::FileKind::Directory) => self.report.directories += 1,
            _ => {}
        }
        self.notes.insert(number, note);
    }

    /// Notes what a fork maps; returns how many blocks it has with its tree.
    fn fork(&mut self, inode: &Inode, fork: Fork) -> u64 {
        let place = format!("inode {}", inode.number());
        let Some(map) = self.take(&place, self.fs.map(inode, fork)) else { return 0 };
        for extent in &map.extents {
            let (group, block) = self.fs.geo.split(extent.block);
            let owner = Owner::file(inode.number(), fork, extent.offset, extent.is_unwritten);
            let may_share = fork == Fork::Data && inode.kind() == Some(vfs::FileKind::Regular);
            self.note_use(group, Use { may_share, ..Use::new(block, extent.len as u32, owner) });
        }
        for tree_block in &map.tree_blocks {
            let (group, block) = self.fs.geo.split(*tree_block);
            self.note_use(group, Use::new(block, 1, Owner::map_tree(inode.number(), fork)));
        }
        map.total() + map.tree_blocks.len() as u64
    }

    /// Links, types and parents, once all directories are read.
    pub(super) fn links(&mut self) {
        let has_parents = self.fs.superblock().features().has(Incompat::PARENT);
        let root = self.fs.superblock().root_inode();
        let notes = std::mem::take(&mut self.notes);
        for (number, note) in &notes {
            if self.fs.superblock().is_internal_inode(*number) {
                continue;
            }
            let place = format!("inode {number}");
            if note.links != note.found {
                let (links, found) = (note.links, note.found);
                self.report.add(
                    "xfs.check.links",
                    &place,
                    format_args!("{links} links, {found} names found"),
                );
            }
            if note.dotdot != 0 && *number != root && note.dotdot != note.parent {
                let (dotdot, parent) = (note.dotdot, note.parent);
                self.report.add(
                    "xfs.check.dotdot",
                    &place,
                    format_args!(".. is {dotdot}, found in {parent}"),
                );
            }
            if has_parents && note.pointers.0 != note.pointers.1 {
                self.report.add("xfs.check.parents", &place, "its parent pointers are not its names");
            }
        }
    }
}
