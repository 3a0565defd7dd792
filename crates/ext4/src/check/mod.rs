//! Structural verification, with the scope of `e2fsck -fn`.

mod mapping;

pub(crate) use mapping::{MapPiece, walk_map};
