//! Errors and findings.

use block::BlockError;
use report::{Class, Diagnose};
use thiserror::Error;

/// Why something of LVM2 cannot be used.
#[derive(Debug, Error)]
pub enum Lvm2Error {
    /// Reading a device failed.
    #[error("LVM2: {0}")]
    Device(#[from] BlockError),
    /// A part contradicts itself.
    #[error("LVM2 {subject}: {detail}")]
    Damaged {
        /// `physical volume …`, `volume group vg`, `logical volume vg/lv`.
        subject: String,
        /// Stable code below `lvm2.`.
        code: &'static str,
        /// Expected and found.
        detail: String,
    },
    /// A part is of a kind that is named and not handled.
    #[error("LVM2 {subject}: {detail}")]
    Unsupported {
        /// `volume group vg`, `logical volume vg/lv`.
        subject: String,
        /// Stable code below `lvm2.`.
        code: &'static str,
        /// What it is.
        detail: String,
    },
}

impl Lvm2Error {
    pub(crate) fn damaged(subject: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self::Damaged { subject: subject.into(), code, detail: detail.into() }
    }

    pub(crate) fn unsupported(
        subject: impl Into<String>,
        code: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self::Unsupported { subject: subject.into(), code, detail: detail.into() }
    }
}

impl Diagnose for Lvm2Error {
    fn code(&self) -> &'static str {
        match self {
            Lvm2Error::Device(below) => below.code(),
            Lvm2Error::Damaged { code, .. } | Lvm2Error::Unsupported { code, .. } => code,
        }
    }

    fn class(&self) -> Class {
        match self {
            Lvm2Error::Device(below) => below.class(),
            Lvm2Error::Damaged { .. } => Class::Damaged,
            Lvm2Error::Unsupported { .. } => Class::Unsupported,
        }
    }

    fn hint(&self) -> Option<String> {
        match self.code() {
            "lvm2.vg.partial" | "lvm2.lv.partial" => {
                Some("Give the guest's other disk images along with this one (`--with`).".into())
            }
            "lvm2.vg.exported" => Some("Run `vgimport` on it first.".into()),
            "lvm2.pv.duplicate" => Some("Give only one copy of each disk.".into()),
            _ => match self {
                Lvm2Error::Device(below) => below.hint(),
                _ => None,
            },
        }
    }
}

/// Something noteworthy or wrong that does not keep the rest from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable dotted code.
    pub code: &'static str,
    /// One sentence: where, expected, found.
    pub detail: String,
}

impl Finding {
    pub(crate) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}
