//! A host that looks to its guest as a cloud does: identity in SMBIOS, DHCP, a metadata service.
//!
//! QEMU's user network serves DHCP; a connection to the metadata address starts a shell script that
//! answers one request (`guestfwd=…-cmd:` in qemu-system(1)). Nothing of it listens on the host.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::cache::RecipeDigest;
use crate::error::{LabError, Result, at};

const SERVER: &str = include_str!("../assets/cloud/metadata.sh");

/// The network card's address, another one than the guest's old configuration pins.
pub const MAC: &str = "52:54:00:12:34:56";

/// What a cloud tells its guests, read from a TOML file (`testdata/cloud-host`).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudHost {
    /// SMBIOS system manufacturer and product name.
    pub manufacturer: String,
    /// The product name, by which cloud-init recognises the cloud.
    pub product: String,
    /// The user network: it must hold both addresses that follow.
    pub network: String,
    /// The address that DHCP gives.
    pub guest: String,
    /// The metadata service's address.
    pub metadata: String,
    /// Answers of the metadata service, by path below the version (`meta-data/instance-id`).
    pub answers: BTreeMap<String, String>,
}

impl CloudHost {
    /// Reads a host from its file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(at(path))?;
        toml::from_str(&text).map_err(|error| LabError::Machine(format!("{}: {error}", path.display())))
    }

    /// QEMU's arguments; the metadata service's files are written to `folder`.
    pub(crate) fn arguments(&self, folder: &Path) -> Result<Vec<String>> {
        let answers = folder.join("metadata");
        for (path, content) in self.answers_with_indexes() {
            let file = answers.join(path);
            let parent = file.parent().unwrap_or(&answers);
            fs::create_dir_all(parent).map_err(at(parent))?;
            fs::write(&file, content).map_err(at(&file))?;
        }
        let server = folder.join("metadata.sh");
        fs::write(&server, SERVER).map_err(at(&server))?;
        let command = format!("sh {} {}", plain(&server)?, plain(&answers)?);
        Ok(vec![
            "-smbios".into(),
            format!("type=1,manufacturer={},product={}", self.manufacturer, self.product),
            "-netdev".into(),
            format!(
                "user,id=net0,ipv6=off,net={},dhcpstart={},guestfwd=tcp:{}:80-cmd:{command}",
                self.network, self.guest, self.metadata
            ),
            "-device".into(),
            format!("virtio-net-pci,netdev=net0,mac={MAC},romfile="),
        ])
    }

    /// Each folder lists what is in it, folders with a slash.
    fn answers_with_indexes(&self) -> BTreeMap<String, String> {
        let mut all = self.answers.clone();
        let mut folders: Vec<String> = Vec::new();
        for path in self.answers.keys() {
            folders.extend(path.match_indices('/').map(|(position, _)| path[..position].to_owned()));
        }
        folders.sort();
        folders.dedup();
        for folder in folders {
            let inside = format!("{folder}/");
            let mut names: Vec<String> = self
                .answers
                .keys()
                .filter_map(|path| path.strip_prefix(&inside))
                .map(|rest| {
                    rest.split_once('/').map_or_else(|| rest.to_owned(), |(name, _)| format!("{name}/"))
                })
                .collect();
            names.sort();
            names.dedup();
            all.insert(format!("{inside}index"), names.join("\n"));
        }
        all
    }

    /// Names everything that decides what the guest sees.
    pub(crate) fn digest(&self) -> String {
        RecipeDigest::default()
            .with("host", format!("{self:?}"))
            .with("server", SERVER)
            .with("mac", MAC)
            .short()
    }
}

/// A path for QEMU's option parser and the command in it, which both split at other characters.
fn plain(path: &Path) -> Result<String> {
    let text = path.display().to_string();
    if text.contains([',', ' ', '\'', '"', '\\', '$']) {
        return Err(LabError::Machine(format!("{text}: the path must hold no blank, comma or quote")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;
    use crate::tool;

    fn host() -> CloudHost {
        CloudHost {
            manufacturer: "Maker".into(),
            product: "Product".into(),
            network: "100.64.0.0/24".into(),
            guest: "100.64.0.15".into(),
            metadata: "100.64.0.200".into(),
            answers: BTreeMap::from([
                ("meta-data/instance-id".into(), "i-new".into()),
                ("meta-data/network/mac".into(), MAC.into()),
            ]),
        }
    }

    fn ask(folder: &Path, request: &str) -> String {
        use std::io::Write;
        let mut command = tool::command("sh", [folder.join("metadata.sh"), folder.join("metadata")]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn the_metadata_service_lists_folders_and_answers_files() {
        let folder = tempfile::tempdir().unwrap();
        host().arguments(folder.path()).unwrap();
        let get = |path: &str| ask(folder.path(), &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(
            get("/2016-01-01/meta-data/instance-id")
                .ends_with("Content-Length: 5\r\nConnection: close\r\n\r\ni-new")
        );
        assert!(get("/latest/meta-data/").ends_with("\r\n\r\ninstance-id\nnetwork/"));
        assert!(get("/2016-01-01/user-data").starts_with("HTTP/1.1 404 "));
        assert!(get("/latest/../metadata.sh").starts_with("HTTP/1.1 404 "));
        assert!(ask(folder.path(), "PUT /latest/api/token HTTP/1.1\r\n\r\n").ends_with("token"));
    }
}
