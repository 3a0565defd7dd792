//! How a cloud's import call names what an image is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names and values of the import call's parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImportSpec {
    /// Name of the call.
    pub call: String,
    /// Where the call is described.
    pub source: String,
    /// Date at which that was read, `YYYY-MM-DD`.
    pub date: String,
    /// Parameter by fact: `architecture`, `platform`, `boot-mode`, `format`, `size`, `nvme`.
    pub parameters: BTreeMap<String, String>,
    /// Parameters with a value that no image changes.
    #[serde(default)]
    pub fixed: BTreeMap<String, String>,
    /// Value by `uname -m` name.
    pub architectures: BTreeMap<String, String>,
    /// Value by format: `raw`, `qcow2`.
    pub formats: BTreeMap<String, String>,
    /// Value by what boots the image: `bios`, `uefi`, `both`.
    pub boot_modes: BTreeMap<String, String>,
    /// Value by whether NVMe disks work: `yes`, `no`.
    pub nvme: BTreeMap<String, String>,
    /// Value by os-release `ID`; `default` for all others.
    pub platforms: BTreeMap<String, String>,
}
