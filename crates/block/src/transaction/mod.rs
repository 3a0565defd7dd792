//! The transaction: journal, commit in place, recovery, undo, and commit to a new image.
//!
//! `docs/transaction.md` gives the states, the numbered invariants (TX-1…) and the layout of the files.

mod commit;
mod format;
pub(crate) mod journal;
mod new_file;
mod new_image;
pub(crate) mod recover;
mod spool;
mod undo;

pub use commit::{CommitOptions, CommitReport, CommitUnit, commit_in_place};
pub use new_file::NewFile;
pub use new_image::{NewImageOptions, commit_to_new};
pub use recover::RecoveryReport;
pub use undo::{UndoReport, default_undo_path, undo, undo_on};
