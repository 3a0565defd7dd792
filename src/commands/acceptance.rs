//! What a cloud's own tools say and ask: its image check's report, and the parameters of its import call.

use std::collections::BTreeMap;

use cloudspec::{ImportSpec, Profile, Severity};
use fixes::{Finding, State};
use guest::{Bus, Guest, Verdict};
use serde::Serialize;
use serde_json::{Map, Value};
use vfs::DeviceTable;

const GIB: u64 = 1 << 30;

/// An item of the cloud's image check, in the shape of its report.
#[derive(Debug, Serialize)]
pub struct CheckItem {
    /// The cloud's name of the item.
    name: String,
    /// `OK`, `WARNING`, `FAILED`.
    result: &'static str,
    /// Rule that does not hold; empty when all do.
    error_code: String,
    /// What is demanded.
    description: String,
    /// What was seen, or what to do.
    comment: String,
    /// All rules that look at it.
    rules: Vec<String>,
}

/// Head of the cloud's report: what the image is.
#[derive(Debug, Serialize)]
pub struct Identity {
    platform: Option<String>,
    os_big_version: Option<String>,
    os_small_version: Option<String>,
    architecture: Option<String>,
    /// GiB, rounded up.
    system_disk_size: u64,
}

impl Identity {
    /// From the guest and its disk.
    pub fn new(guest: &Guest, devices: &DeviceTable) -> Self {
        let version = guest.os.version.as_deref();
        let part = |index: usize| version.and_then(|text| text.split('.').nth(index)).map(str::to_owned);
        Self {
            platform: guest.os.id.clone(),
            os_big_version: part(0),
            os_small_version: part(1).or_else(|| {
                let point = guest.os.debian_version.as_deref()?.split_once('.')?.1;
                Some(point.to_owned())
            }),
            architecture: guest.architecture.clone(),
            system_disk_size: devices.disk_len.div_ceil(GIB),
        }
    }
}

/// One item for each name that the profile's rules give, then one for each rule without a name of the cloud's.
pub fn check_items(findings: &[Finding]) -> Vec<CheckItem> {
    let mut names: Vec<&str> = Vec::new();
    for name in findings.iter().flat_map(|finding| &finding.check_items) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let named = names.into_iter().map(|name| {
        let rules: Vec<&Finding> =
            findings.iter().filter(|finding| finding.check_items.iter().any(|item| item == name)).collect();
        item(name, &rules)
    });
    let unnamed = findings.iter().filter(|finding| finding.check_items.is_empty());
    named.chain(unnamed.map(|finding| item(&finding.rule, &[finding]))).collect()
}

fn item(name: &str, rules: &[&Finding]) -> CheckItem {
    // The worst of its rules decides; severities are in ascending order.
    let worst =
        rules.iter().filter(|finding| finding.state.is_unmet()).max_by_key(|finding| finding.severity);
    let shown = worst
        .or_else(|| rules.iter().find(|finding| finding.state == State::Holds).or_else(|| rules.first()));
    CheckItem {
        name: name.to_owned(),
        result: match worst.map(|finding| finding.severity) {
            None => "OK",
            Some(Severity::Must) => "FAILED",
            Some(Severity::Recommended | Severity::Optional) => "WARNING",
        },
        error_code: worst.map(|finding| finding.rule.clone()).unwrap_or_default(),
        description: shown.map(|finding| finding.summary.clone()).unwrap_or_default(),
        comment: shown
            .map(|finding| {
                finding.evidence.iter().chain(&finding.remedy).cloned().collect::<Vec<_>>().join("; ")
            })
            .unwrap_or_default(),
        rules: rules.iter().map(|finding| finding.rule.clone()).collect(),
    }
}

/// The parameters of the import call, ready to use.
#[derive(Debug, Serialize)]
pub struct Import {
    /// Name of the call.
    pub call: String,
    /// Value by parameter.
    pub parameters: Map<String, Value>,
    /// Parameters that cannot be told, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<String>,
}

impl Import {
    /// `None` for profiles without an import call.
    pub fn new(
        profile: &Profile,
        guest: &Guest,
        devices: &DeviceTable,
        boot: &BTreeMap<Bus, Verdict>,
    ) -> Option<Self> {
        let spec = profile.import.as_ref()?;
        let mut import = Self { call: spec.call.clone(), parameters: Map::new(), open: Vec::new() };
        let architecture = guest.architecture.as_deref();
        import.mapped(
            spec,
            "architecture",
            architecture,
            &spec.architectures,
            "no program tells the architecture",
        );
        let id = guest.os.id.as_deref().unwrap_or("default");
        let platform = spec.platforms.get(id).or_else(|| spec.platforms.get("default")).cloned();
        import.put(spec, "platform", platform.map(Value::String), "the profile has no name for it");
        let mode = boot_mode(guest, devices);
        import.mapped(
            spec,
            "boot-mode",
            mode,
            &spec.boot_modes,
            "neither BIOS nor UEFI boots it for certain",
        );
        let format = devices.image_format.as_deref();
        import.mapped(spec, "format", format, &spec.formats, "the format has no name there");
        import.put(spec, "size", Some(devices.disk_len.div_ceil(GIB).into()), "");
        let nvme = boot.get(&Bus::Nvme).map(|verdict| if verdict.boots() { "yes" } else { "no" });
        import.mapped(spec, "nvme", nvme, &spec.nvme, "no verdict for NVMe");
        for (name, value) in &spec.fixed {
            import.parameters.insert(name.clone(), value.clone().into());
        }
        Some(import)
    }

    fn mapped(
        &mut self,
        spec: &ImportSpec,
        fact: &str,
        value: Option<&str>,
        names: &BTreeMap<String, String>,
        otherwise: &str,
    ) {
        let named = value.and_then(|value| names.get(value)).cloned();
        self.put(spec, fact, named.map(Value::String), otherwise);
    }

    fn put(&mut self, spec: &ImportSpec, fact: &str, value: Option<Value>, otherwise: &str) {
        let Some(name) = spec.parameters.get(fact) else { return };
        match value {
            Some(value) => {
                self.parameters.insert(name.clone(), value);
            }
            None => self.open.push(format!("{name}: {otherwise}")),
        }
    }

    /// One line a parameter.
    pub fn text(&self) -> String {
        let mut text = format!("\nimport with {}\n", self.call);
        let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        for (name, value) in &self.parameters {
            text.push_str(&format!("  {name}={}\n", shown(value)));
        }
        for open in &self.open {
            text.push_str(&format!("  {open}\n"));
        }
        text
    }
}

/// What boots the image, by its contents.
fn boot_mode(guest: &Guest, devices: &DeviceTable) -> Option<&'static str> {
    let modes = guest::boot_modes(guest, devices);
    match (modes.bios.boots(), modes.uefi.boots()) {
        (true, true) => Some("both"),
        (true, false) => Some("bios"),
        (false, true) => Some("uefi"),
        (false, false) => None,
    }
}
