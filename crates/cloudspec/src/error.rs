//! What can be wrong with a profile.

use report::{Class, Diagnose};
use thiserror::Error;

/// A profile that cannot be used.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// No embedded profile of this name.
    #[error("no profile is named {name:?}; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// `--set` names a switch that the profile does not have.
    #[error("profile {profile} has no switch {name:?}; it has: {known}")]
    UnknownSwitch {
        /// The profile.
        profile: String,
        /// The name given.
        name: String,
        /// Its switches.
        known: String,
    },
    /// `--set` gives a switch a value that it does not know.
    #[error("{name}={value}: {name} is one of {known}")]
    UnknownValue {
        /// The switch.
        name: String,
        /// The value given.
        value: String,
        /// Its values.
        known: String,
    },
    /// The text is no valid profile.
    #[error("{origin}:{line}: {detail}")]
    Invalid {
        /// File name, or `built in: NAME`.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        detail: String,
    },
}

impl Diagnose for ProfileError {
    fn code(&self) -> &'static str {
        match self {
            ProfileError::Unknown { .. } => "profile.unknown",
            ProfileError::UnknownSwitch { .. } => "profile.switch.unknown",
            ProfileError::UnknownValue { .. } => "profile.switch.value",
            ProfileError::Invalid { .. } => "profile.invalid",
        }
    }

    fn class(&self) -> Class {
        Class::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            ProfileError::Unknown { .. } => {
                Some("Give a name from `coldfit profiles list`, or a file.".into())
            }
            ProfileError::UnknownSwitch { .. } | ProfileError::UnknownValue { .. } => {
                Some("`coldfit profiles show NAME` lists a profile's switches and their values.".into())
            }
            ProfileError::Invalid { .. } => {
                Some("`coldfit profiles show kvm --toml` prints a valid profile.".into())
            }
        }
    }
}
