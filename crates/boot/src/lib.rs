//! Kernel-argument grammar and boot configuration files: token edits.
//!
//! Every parser here keeps every byte that no edit touches. Pure functions: no file is opened.

mod bls;
mod cmdline;
mod default_grub;
mod error;
mod extlinux;
mod grub_cfg;
mod grub_lexer;
mod grubenv;
mod joined;
mod legacy;
mod program;
mod shell;
mod uki;

pub use bls::{LoaderEntry, grub_menu_order, systemd_boot_order, version_order};
pub use cmdline::{Argument, CommandLine, is_multi_valued, keys_equal};
pub use default_grub::{DefaultGrub, Edit, EffectiveValue, SourceFile};
pub use error::BootError;
pub use extlinux::{AppendLine, ExtlinuxConfig, ExtlinuxEntry};
pub use grub_cfg::{
    EntryId, GrubConfig, InitrdLine, KernelLine, KernelOptions, MAX_ENTRIES, MenuEntry, Stub,
};
pub use grub_lexer::MAX_CONFIG_BYTES;
pub use grubenv::GrubEnv;
pub use joined::JoinedLine;
pub use legacy::{LegacyConfig, LegacyDefault, Template};
pub use program::is_other_program;
pub use shell::set_shell_variable;
pub use uki::is_unified_kernel_image;
