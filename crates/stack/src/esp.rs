//! What the EFI system partition holds for the firmware, whether the guest mounts it or not.

use crate::grub_image;
use vfs::{EfiFile, EfiMachine, EfiProgram, FileKind, Filesystem, FirmwareFacts, NodeId, VfsError};

/// Levels of directories that are looked into; loaders lie two or three deep.
const MAX_DEPTH: usize = 8;
/// Entries that are looked at.
const MAX_ENTRIES: usize = 4096;
/// Programs that are listed.
const MAX_PROGRAMS: usize = 256;
/// Bytes of a program that are looked at: GRUB and shim stay below 4 MiB; all programs together.
const MAX_PROGRAM_BYTES: u64 = 8 << 20;
const MAX_ALL_BYTES: u64 = 128 << 20;

/// Lists the programs and other files of `esp` into `facts`.
pub(crate) fn read(esp: &dyn Filesystem, facts: &mut FirmwareFacts) -> Result<(), VfsError> {
    let mut programs = Vec::new();
    let mut others = Vec::new();
    let mut left = MAX_ALL_BYTES;
    let mut seen = 0;
    let mut dirs = vec![(esp.root(), String::new(), 0)];
    while let Some((dir, at, depth)) = dirs.pop() {
        for entry in esp.list(dir)? {
            seen += 1;
            if seen > MAX_ENTRIES || programs.len() == MAX_PROGRAMS {
                let limit = format!("more than {MAX_ENTRIES} entries or {MAX_PROGRAMS} programs");
                return Err(VfsError::Limit { path: at, limit });
            }
            let path = format!("{at}{}", String::from_utf8_lossy(&entry.name));
            if esp.stat(entry.node)?.kind == FileKind::Directory {
                if depth < MAX_DEPTH {
                    dirs.push((entry.node, format!("{path}/"), depth + 1));
                }
            } else if path.to_ascii_lowercase().ends_with(".efi") {
                programs.push(look_into(esp, entry.node, path, &mut left)?);
            } else {
                others.push(path);
            }
        }
    }
    programs.sort_by(|one, next| one.path.cmp(&next.path));
    others.sort();
    facts.efi_files = Some(programs);
    facts.loader_files = others;
    Ok(())
}

fn look_into(esp: &dyn Filesystem, node: NodeId, path: String, left: &mut u64) -> Result<EfiFile, VfsError> {
    let len = esp.stat(node)?.len.min(MAX_PROGRAM_BYTES).min(*left);
    let mut bytes = vec![0; len as usize];
    let got = esp.read_at(node, 0, &mut bytes)?;
    bytes.truncate(got);
    *left -= len;
    let program = program(&bytes);
    let is_grub = matches!(program, Some(EfiProgram::Grub | EfiProgram::GrubWithConfig));
    let grub_prefix = if is_grub { grub_image::prefix(&bytes) } else { None };
    Ok(EfiFile { path, machine: machine(&bytes), program, grub_prefix })
}

/// Machine of a PE program: `MZ`, the offset of the PE header at 0x3c, `PE\0\0`, the machine (PE format, "MS-DOS
/// Stub" and "COFF File Header").
fn machine(bytes: &[u8]) -> Option<EfiMachine> {
    if bytes.get(..2) != Some(b"MZ") {
        return None;
    }
    let at = usize::try_from(ondisk::try_le_u32(bytes, 0x3c)?).ok()?;
    if bytes.get(at..at.checked_add(4)?) != Some(b"PE\0\0") {
        return None;
    }
    Some(match ondisk::try_le_u16(bytes, at + 4)? {
        0x8664 => EfiMachine::X64,
        0x014c => EfiMachine::Ia32,
        0xaa64 => EfiMachine::Aarch64,
        0x01c2 | 0x01c4 => EfiMachine::Arm,
        0x5064 => EfiMachine::Riscv64,
        0x6264 => EfiMachine::Loongarch64,
        other => EfiMachine::Other(other),
    })
}

/// By strings that each program carries for people or for other programs to find.
fn program(bytes: &[u8]) -> Option<EfiProgram> {
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    machine(bytes)?;
    if has(b"UEFI SHIM") {
        return Some(EfiProgram::Shim);
    }
    if has(b"LoaderInfo: systemd-stub") {
        return Some(EfiProgram::KernelImage);
    }
    if has(b"LoaderInfo: systemd-boot") {
        return Some(EfiProgram::SystemdBoot);
    }
    if has(b"Welcome to GRUB!") {
        // With an argument it is a command; the module that makes the command has its bare name.
        return Some(match has(b"search.fs_uuid ") || names_a_partition(bytes) {
            true => EfiProgram::GrubWithConfig,
            false => EfiProgram::Grub,
        });
    }
    None
}

/// GRUB's prefix with a partition of the disk that it was started from (`(,gpt2)/boot/grub`): `grub-install` writes it
/// where root lies on the same disk as the EFI system partition. Signed builds have a bare path (`/EFI/debian`).
fn names_a_partition(bytes: &[u8]) -> bool {
    [&b"(,gpt"[..], b"(,msdos"].iter().any(|start| {
        bytes.windows(start.len()).enumerate().filter(|(_, window)| window == start).any(|(at, _)| {
            let rest = &bytes[at + start.len()..];
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (1..=3).contains(&digits) && rest[digits..].starts_with(b")/")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pe(machine: u16, text: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 0x80];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x80;
        bytes.extend(b"PE\0\0");
        bytes.extend(machine.to_le_bytes());
        bytes.extend(text);
        bytes
    }

    #[test]
    fn machines_and_programs_are_told_apart() {
        assert_eq!(machine(&pe(0x8664, b"")), Some(EfiMachine::X64));
        assert_eq!(machine(&pe(0xaa64, b"")), Some(EfiMachine::Aarch64));
        assert_eq!(machine(&pe(0x1234, b"")), Some(EfiMachine::Other(0x1234)));
        let mut far = pe(0x8664, b"");
        far[0x3c..0x40].fill(0xff);
        for none in [&b""[..], b"MZ", b"ELF", &far] {
            assert_eq!((machine(none), program(none)), (None, None));
        }
        for (text, expected) in [
            (&b"UEFI SHIM\n$Version: 15.8 $"[..], Some(EfiProgram::Shim)),
            (b"search.fs_uuid\0Welcome to GRUB!", Some(EfiProgram::Grub)),
            (b"Welcome to GRUB!\0search.fs_uuid 12-34 root ", Some(EfiProgram::GrubWithConfig)),
            (b"Welcome to GRUB!\0(,gpt2)/boot/grub\0", Some(EfiProgram::GrubWithConfig)),
            (b"Welcome to GRUB!\0(,gpt)/boot (,msdos1) /EFI/debian", Some(EfiProgram::Grub)),
            (b"#### LoaderInfo: systemd-boot 255 ####", Some(EfiProgram::SystemdBoot)),
            (b"#### LoaderInfo: systemd-stub 255 ####", Some(EfiProgram::KernelImage)),
            (b"memtest", None),
        ] {
            assert_eq!(program(&pe(0x8664, text)), expected);
        }
    }
}
