//! SELinux labels by a guest's own policy.
//!
//! A policy names the label of each path in its `file_contexts`: regular expressions of which the last that
//! matches decides (selabel_file(5), file_contexts(5)). [`Policy::read`] finds the policy that the guest is
//! configured for, [`Policy::label`] looks a path up as `matchpathcon` does. Nothing here writes.

mod config;
mod contexts;
mod pattern;
mod policy;
mod substitution;

pub use config::{Config, Mode};
pub use contexts::{FileContexts, Lookup};
pub use policy::Policy;
