//! Architecture, host name, machine id, init.

use vfs::VfsError;

use crate::MachineId;
use crate::kernels::elf_machine;
use crate::os::first_line;
use crate::reading::{Reader, path};

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

/// Architecture of the guest's own programs, for a guest without a kernel that tells, by their ELF header (`e_ident` and `e_machine`).
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
        let Some(name) = elf_machine(machine, is_big_endian) else { continue };
        return Ok(Some(name.into()));
    }
    Ok(None)
}

/// Process 1. Where `/sbin/init` is a link, its target says it; a program of that name itself is Upstart or
/// SysV init, even where systemd's files are installed beside it (Ubuntu 14.04, Debian 8 with sysvinit-core).
pub(crate) fn init(reader: &mut Reader<'_>) -> Result<Option<String>, VfsError> {
    let init = path("/sbin/init");
    let real = match reader.tree.resolve(&init) {
        Ok(location) => Some(location.path.as_bytes().to_vec()),
        Err(_) => reader.tree.read_link(&init).ok(),
    };
    let program = real.as_deref().and_then(|path| path.rsplit(|byte| *byte == b'/').next());
    let by_link = match program {
        Some(b"systemd") => Some("systemd"),
        Some(b"upstart") => Some("upstart"),
        Some(b"openrc-init") => Some("openrc"),
        Some(b"runit-init" | b"runit") => Some("runit"),
        _ => None,
    };
    if let Some(name) = by_link {
        return Ok(Some(name.into()));
    }
    let older: &[(&str, &str)] = &[
        ("/sbin/openrc-init", "openrc"),
        ("/sbin/openrc", "openrc"),
        // CentOS 6 keeps an inittab for the default runlevel only, so Upstart's jobs are asked first.
        ("/etc/init/rcS.conf", "upstart"),
        ("/etc/init/rc-sysinit.conf", "upstart"),
        ("/etc/inittab", "sysvinit"),
    ];
    let systemd: &[(&str, &str)] =
        &[("/lib/systemd/systemd", "systemd"), ("/usr/lib/systemd/systemd", "systemd")];
    let order = if program == Some(b"init") { [older, systemd] } else { [systemd, older] };
    for (file, name) in order.into_iter().flatten() {
        if reader.exists(file)? {
            return Ok(Some((*name).into()));
        }
    }
    Ok((program == Some(b"busybox")).then(|| "busybox".into()))
}
