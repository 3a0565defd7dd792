//! Operating system, architecture, host name, machine id, init.

use vfs::VfsError;

use crate::reading::{Reader, path};
use crate::{MachineId, OsInfo};

pub(crate) fn os(reader: &mut Reader<'_>) -> Result<OsInfo, VfsError> {
    let mut os = OsInfo::default();
    for at in ["/etc/os-release", "/usr/lib/os-release"] {
        let Some(text) = reader.text(at)? else { continue };
        let value = |key: &str| assignment(&text, key).filter(|value| !value.is_empty());
        os.id = value("ID");
        os.id_like = value("ID_LIKE")
            .map(|value| value.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default();
        os.version = value("VERSION_ID");
        os.pretty_name = value("PRETTY_NAME");
        break;
    }
    os.debian_version = first_line(reader, "/etc/debian_version")?;
    Ok(os)
}

/// Value of `KEY=value` in os-release, quotes and escapes removed.
fn assignment(text: &str, key: &str) -> Option<String> {
    let line = text.lines().rev().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
    let line = line.trim();
    let quoted = |quote: char| line.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(inside) = quoted('\'') {
        return Some(inside.to_owned());
    }
    let inside = quoted('"').unwrap_or(line);
    let mut value = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => value.extend(characters.next()),
            other => value.push(other),
        }
    }
    Some(value)
}

fn first_line(reader: &mut Reader<'_>, at: &str) -> Result<Option<String>, VfsError> {
    let text = reader.text(at)?;
    Ok(text.and_then(|text| text.lines().next().map(|line| line.trim().to_owned())).filter(|l| !l.is_empty()))
}

pub(crate) fn hostname(reader: &mut Reader<'_>) -> Result<Option<String>, VfsError> {
    first_line(reader, "/etc/hostname")
}

pub(crate) fn machine_id(reader: &mut Reader<'_>) -> Result<MachineId, VfsError> {
    let Some(text) = reader.text("/etc/machine-id")? else { return Ok(MachineId::Missing) };
    let text = text.trim();
    Ok(match text {
        "" | "uninitialized" => MachineId::Unset,
        _ if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => MachineId::Set,
        _ => MachineId::Malformed,
    })
}

/// Architecture of the guest's own programs, by their ELF header (`e_ident` and `e_machine`).
pub(crate) fn architecture(reader: &mut Reader<'_>) -> Result<Option<String>, VfsError> {
    for program in ["/bin/sh", "/usr/bin/env", "/bin/true", "/sbin/init", "/bin/busybox", "/usr/bin/bash"] {
        let mut header = [0; 20];
        match reader.peek(program, 0, &mut header) {
            Ok(20) if header.starts_with(b"\x7fELF") => {}
            Ok(_)
            | Err(
                VfsError::NotFound { .. } | VfsError::NotADirectory { .. } | VfsError::SymlinkLoop { .. },
            ) => continue,
            Err(error) => return Err(error),
        }
        let is_big_endian = header[5] == 2;
        let machine = match is_big_endian {
            true => u16::from_be_bytes([header[18], header[19]]),
            false => u16::from_le_bytes([header[18], header[19]]),
        };
        let name = match (machine, header[4], is_big_endian) {
            (62, _, _) => "x86_64",
            (3, _, _) => "i686",
            (183, _, false) => "aarch64",
            (40, _, false) => "armv7l",
            (243, 2, false) => "riscv64",
            (21, _, false) => "ppc64le",
            (22, _, true) => "s390x",
            _ => continue,
        };
        return Ok(Some(name.into()));
    }
    Ok(None)
}

pub(crate) fn init(reader: &mut Reader<'_>) -> Result<Option<String>, VfsError> {
    let target = match reader.tree.read_link(&path("/sbin/init")) {
        Ok(target) => String::from_utf8_lossy(&target).into_owned(),
        Err(_) => String::new(),
    };
    if target.ends_with("/systemd") {
        return Ok(Some("systemd".into()));
    }
    let candidates = [
        ("/lib/systemd/systemd", "systemd"),
        ("/usr/lib/systemd/systemd", "systemd"),
        ("/sbin/openrc-init", "openrc"),
        ("/sbin/openrc", "openrc"),
        ("/etc/inittab", "sysvinit"),
        ("/etc/init/rcS.conf", "upstart"),
    ];
    for (file, name) in candidates {
        if reader.exists(file)? {
            return Ok(Some(name.into()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_values() {
        let text = "NAME=x\nID=debian\nPRETTY_NAME=\"A \\\"b\\\" c\"\nVERSION_ID='12'\n# ID=no\n";
        assert_eq!(assignment(text, "ID").as_deref(), Some("debian"));
        assert_eq!(assignment(text, "PRETTY_NAME").as_deref(), Some("A \"b\" c"));
        assert_eq!(assignment(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(assignment(text, "NOTHING"), None);
    }
}
