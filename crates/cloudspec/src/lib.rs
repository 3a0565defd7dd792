//! Profiles: what a cloud or host demands of an image, as data.
//!
//! A profile is a TOML file: embedded ones are listed by [`builtin`], others are read from a file.
//! Every rule carries its value, severity, source and the date at which the source was read. No other
//! crate holds a value of a cloud. Where a source contradicts itself a [`Switch`] decides, and the rule
//! that lost is kept as waived, with the reason.

mod error;
mod import;
mod kind;
mod profile;
mod raw;
mod switch;

pub use error::ProfileError;
pub use import::ImportSpec;
pub use kind::RuleKind;
pub use profile::{Places, Profile, RuleSpec, Severity, builtin, builtin_names};
pub use switch::Switch;
