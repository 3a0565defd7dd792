//! Package manager and guest agents.

use vfs::VfsError;

use crate::reading::Reader;

/// Package name and what its presence leaves on disk under any package manager.
const AGENTS: [(&str, &[&str]); 12] = [
    ("cloud-init", &["/usr/bin/cloud-init"]),
    ("qemu-guest-agent", &["/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"]),
    ("open-vm-tools", &["/usr/bin/vmtoolsd"]),
    ("vmware-tools", &["/etc/vmware-tools/config"]),
    ("virtualbox-guest-utils", &["/usr/sbin/VBoxService"]),
    ("hyperv-daemons", &["/usr/sbin/hv_kvp_daemon"]),
    ("waagent", &["/usr/sbin/waagent"]),
    ("google-guest-agent", &["/usr/bin/google_guest_agent"]),
    ("amazon-ssm-agent", &["/usr/bin/amazon-ssm-agent"]),
    ("spice-vdagent", &["/usr/bin/spice-vdagent"]),
    ("xe-guest-utilities", &["/usr/sbin/xe-daemon"]),
    ("ec2-instance-connect", &["/usr/share/ec2-instance-connect/eic_run_authorized_keys"]),
];

pub(crate) fn package_manager(reader: &mut Reader<'_>) -> Result<Option<String>, VfsError> {
    let managers = [
        ("/var/lib/dpkg/status", "dpkg"),
        ("/var/lib/rpm", "rpm"),
        ("/usr/lib/sysimage/rpm", "rpm"),
        ("/lib/apk/db", "apk"),
        ("/var/lib/pacman", "pacman"),
    ];
    for (file, name) in managers {
        if reader.exists(file)? {
            return Ok(Some(name.into()));
        }
    }
    Ok(None)
}

/// Agents whose program is there, or that dpkg lists with files.
pub(crate) fn agents(reader: &mut Reader<'_>) -> Result<Vec<String>, VfsError> {
    let mut found = Vec::new();
    for (name, programs) in AGENTS {
        let mut is_there = reader.exists(&format!("/var/lib/dpkg/info/{name}.list"))?
            && is_installed(reader, name, programs)?;
        for program in programs {
            is_there = is_there || reader.exists(program)?;
        }
        if is_there {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}

/// A package that was removed keeps its list while its configuration stays; then the program is gone.
fn is_installed(reader: &mut Reader<'_>, name: &str, programs: &[&str]) -> Result<bool, VfsError> {
    let list = reader.text(&format!("/var/lib/dpkg/info/{name}.list"))?.unwrap_or_default();
    Ok(list.lines().any(|line| programs.contains(&line)))
}
