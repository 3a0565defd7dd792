//! Profiles: what a cloud or host demands of an image, as data.
//!
//! A profile is a TOML file: embedded ones are listed by [`builtin`], others are read from a file.
//! Every rule carries its value, severity, source and the date at which the source was read. No other
//! crate holds a value of a cloud.

mod error;
mod profile;

pub use error::ProfileError;
pub use profile::{Profile, RuleKind, RuleSpec, Severity, builtin, builtin_names};
