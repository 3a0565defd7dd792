//! What is remembered of each inode in use.

use vfs::FileKind;

/// One inode.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Note {
    /// `i_links_count`.
    pub(super) declared: u16,
    /// Names found for it, `.` and `..` included.
    pub(super) found: u32,
    pub(super) state: State,
}

/// What kind of inode it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Not in use.
    #[default]
    Free,
    /// Reserved by the format or by the superblock; has no name.
    Reserved,
    /// Holds an attribute value; has no name.
    AttributeValue,
    /// In use.
    Used(Option<FileKind>),
}

/// Notes by group; a group costs memory only when an inode in it is in use.
pub(super) struct InodeNotes {
    groups: Vec<Option<Box<[Note]>>>,
    per_group: u32,
}

impl InodeNotes {
    pub(super) fn new(groups: u32, per_group: u32) -> Self {
        Self { groups: vec![None; groups as usize], per_group }
    }

    pub(super) fn put(&mut self, inode: u32, note: Note) {
        let (group, index) = self.position(inode);
        let per_group = self.per_group as usize;
        if let Some(slot) = self.groups.get_mut(group) {
            let notes = slot.get_or_insert_with(|| vec![Note::default(); per_group].into_boxed_slice());
            if let Some(place) = notes.get_mut(index) {
                *place = note;
            }
        }
    }

    pub(super) fn get(&self, inode: u32) -> Note {
        let (group, index) = self.position(inode);
        self.group(group as u32).get(index).copied().unwrap_or_default()
    }

    pub(super) fn add_name(&mut self, inode: u32) {
        let (group, index) = self.position(inode);
        if let Some(note) =
            self.groups.get_mut(group).and_then(Option::as_mut).and_then(|notes| notes.get_mut(index))
        {
            note.found = note.found.saturating_add(1);
        }
    }

    /// Notes of a group; empty when nothing in it is in use.
    pub(super) fn group(&self, group: u32) -> &[Note] {
        self.groups.get(group as usize).and_then(Option::as_deref).unwrap_or_default()
    }

    fn position(&self, inode: u32) -> (usize, usize) {
        let index = inode.wrapping_sub(1);
        ((index / self.per_group) as usize, (index % self.per_group) as usize)
    }
}
