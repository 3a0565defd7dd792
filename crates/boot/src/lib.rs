//! Kernel-argument grammar and boot configuration files: token edits.
//!
//! Every parser here keeps every byte that no edit touches. Pure functions: no file is opened.

mod cmdline;
mod default_grub;
mod error;
mod grub_cfg;
mod grub_lexer;
mod grubenv;
mod shell;

pub use cmdline::{Argument, CommandLine, is_multi_valued, keys_equal};
pub use default_grub::{DefaultGrub, Edit, EffectiveValue, SourceFile};
pub use error::BootError;
pub use grub_cfg::{EntryId, GrubConfig, InitrdLine, KernelLine, MAX_ENTRIES, MenuEntry, Stub};
pub use grub_lexer::MAX_CONFIG_BYTES;
pub use grubenv::GrubEnv;
