//! Rules: check a guest against a profile, and plan the edits that make it meet the profile.
//!
//! [`plan`] changes nothing: it works on a [`Stage`], which keeps the new content of every file that a
//! rule edits, so that later rules see what earlier ones did. [`apply`] writes the plan to the guest
//! tree. Run on its own output, [`plan`] plans nothing.

mod apply;
mod edit;
mod error;
mod finding;
mod injection;
mod labels;
mod plan;
mod rules;
mod stage;

pub use apply::apply;
pub use edit::{Action, Edit};
pub use error::FixError;
pub use finding::{Finding, State};
pub use plan::{Plan, Selection, plan};
pub use rules::{InjectionPlan, inject_modules};
pub use stage::{PlannedDiskEdit, Stage};
