//! Live values of a booted guest, as the images for the proof on real guests tell them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::cache::{Cache, RecipeDigest, file_digest};
use crate::cloud_host::CloudHost;
use crate::error::{LabError, Result, at};
use crate::qemu::{Boot, BootOutcome, Bus, End, Firmware};
use crate::tool;

const PREFIX: &str = "COLDFIT-LIVE ";
/// The last line; its value is the number of lines before it.
const END: &str = "COLDFIT-LIVE end=";
/// cloud-init under software emulation takes its time.
const TIMEOUT: Duration = Duration::from_secs(1200);

/// What a guest said of itself after its boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    values: BTreeMap<String, Vec<String>>,
}

impl Live {
    /// Reads the lines out of a serial log; an error when some are missing.
    pub fn from_serial(serial: &str) -> Result<Self> {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut count = 0;
        for line in serial.lines().filter_map(|line| line.trim_end().strip_prefix(PREFIX)) {
            let Some((key, value)) = line.split_once('=') else { continue };
            if key == "end" {
                if value.parse() == Ok(count) {
                    return Ok(Self { values });
                }
                return Err(LabError::Machine(format!("{count} live values came, the guest wrote {value}")));
            }
            count += 1;
            values.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        Err(LabError::Machine(format!("the live values end early: {}", tool::tail(serial, 3000))))
    }

    /// The only value of `key`; empty when the guest has none.
    pub fn get(&self, key: &str) -> &str {
        self.values.get(key).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// Every value of `key`, in the guest's order.
    pub fn all(&self, key: &str) -> &[String] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// Every key with its values, a line each.
    pub fn text(&self) -> String {
        let lines = self
            .values
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| format!("{key}={value}\n")));
        lines.collect()
    }
}

/// Boots `image` from its own bootloader on a cloud's host until it has told its live values, or
/// repeats what the same bytes said before.
pub fn boot_live(
    cache: &Cache,
    image: &Path,
    bus: Bus,
    firmware: Firmware,
    host: &CloudHost,
) -> Result<BootOutcome> {
    let version = tool::run("qemu-system-x86_64", ["--version"])?;
    let key = RecipeDigest::default()
        .with("image", file_digest(image)?)
        .with("bus", bus.name())
        .with("firmware", format!("{firmware:?}"))
        .with("host", host.digest())
        .with("qemu", version.lines().next().unwrap_or_default())
        .short();
    let stored = cache.path(&format!("live/{key}.json"))?;
    if let Ok(text) = fs::read_to_string(&stored)
        && let Ok(outcome) = serde_json::from_str(&text)
    {
        return Ok(outcome);
    }
    let boot = Boot::new(image, bus).firmware(firmware).host(host).marker(END).timeout(TIMEOUT);
    let outcome = boot.run(cache)?;
    // A boot that ran out of time says more about the machine than about the image.
    if outcome.end != End::TimedOut {
        let text = serde_json::to_string_pretty(&outcome)
            .map_err(|error| LabError::Machine(format!("boot outcome: {error}")))?;
        fs::write(&stored, text).map_err(at(&stored))?;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_up_to_the_end_line() {
        let serial =
            "login: \nCOLDFIT-LIVE a=1\r\nCOLDFIT-LIVE b=x=y\r\nCOLDFIT-LIVE b=z\r\nCOLDFIT-LIVE end=3\r\n";
        let live = Live::from_serial(serial).unwrap();
        assert_eq!((live.get("a"), live.all("b").join(" ")), ("1", "x=y z".to_owned()));
        assert_eq!(live.get("missing"), "");
    }

    #[test]
    fn lost_lines_are_an_error() {
        assert!(Live::from_serial("COLDFIT-LIVE a=1\nCOLDFIT-LIVE end=2\n").is_err());
        assert!(Live::from_serial("COLDFIT-LIVE a=1\n").is_err());
    }
}
