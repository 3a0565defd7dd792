//! What `grub-mkimage` put into a GRUB image: the directory where it looks for its configuration.
//!
//! Source: GRUB's `include/grub/kernel.h`. Behind the kernel lies a `grub_module_info` (magic `mimg`; in the form for
//! 64 bits four bytes of padding, offset of the first module and total length as 64-bit numbers), then modules, each
//! with its type and its length including this header. All numbers are in the machine's order; every machine that
//! UEFI knows is little-endian.

const MAGIC: &[u8] = b"mimg";
const TYPE_PREFIX: u32 = 3;
const HEADER_LEN_32: usize = 12;
const HEADER_LEN_64: usize = 24;
/// Places with the magic, and modules behind each, that are looked at.
const PLACES_MAX: usize = 64;
const MODULES_MAX: usize = 1024;
/// Longer prefixes are none: paths of GRUB images have some twenty characters.
const PREFIX_MAX: usize = 512;

/// The prefix of an image, as it was given to `grub-mkimage -p`.
pub(crate) fn prefix(image: &[u8]) -> Option<String> {
    // Kernel and modules are aligned to 4 bytes at least.
    let places = (0..image.len().saturating_sub(HEADER_LEN_32))
        .step_by(4)
        .filter(|at| image[*at..].starts_with(MAGIC));
    places.take(PLACES_MAX).find_map(|at| {
        let info = image.get(at..)?;
        modules(info, HEADER_LEN_64).or_else(|| modules(info, HEADER_LEN_32))
    })
}

/// Looks for the prefix among the modules behind an information block whose modules begin at `first`.
fn modules(info: &[u8], first: usize) -> Option<String> {
    let is_64 = first == HEADER_LEN_64;
    let number = |at: usize| Some(ondisk::try_le_u32(info, at)? as usize);
    let (offset_at, size_at) = if is_64 { (8, 16) } else { (4, 8) };
    if number(offset_at)? != first || (is_64 && (number(12)? != 0 || number(20)? != 0)) {
        return None;
    }
    let end = number(size_at)?.min(info.len());
    let mut at = first;
    for _ in 0..MODULES_MAX {
        if at + 8 > end {
            break;
        }
        let (kind, len) = (ondisk::try_le_u32(info, at)?, number(at + 4)?);
        if len < 8 {
            break;
        }
        let next = at.checked_add(len).filter(|next| *next <= end)?;
        if kind == TYPE_PREFIX {
            let text = info.get(at + 8..next)?.split(|byte| *byte == 0).next()?;
            return String::from_utf8(text.to_vec()).ok().filter(|text| text.len() <= PREFIX_MAX);
        }
        at = next;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

    use std::path::Path;

    use super::*;
    use testkit::{deb, tool};

    fn image(is_64: bool, modules: &[(u32, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, content) in modules {
            let len = (content.len() as u32 + 8).next_multiple_of(8);
            body.extend(kind.to_le_bytes());
            body.extend(len.to_le_bytes());
            body.extend(*content);
            body.resize(body.len().next_multiple_of(8), 0);
        }
        let first = if is_64 { HEADER_LEN_64 } else { HEADER_LEN_32 };
        let mut image = vec![0x90; 16];
        image.extend(MAGIC);
        if is_64 {
            image.extend([0; 4]);
            image.extend((first as u64).to_le_bytes());
            image.extend(((first + body.len()) as u64).to_le_bytes());
        } else {
            image.extend((first as u32).to_le_bytes());
            image.extend(((first + body.len()) as u32).to_le_bytes());
        }
        image.extend(body);
        image
    }

    #[test]
    fn the_prefix_is_found_among_modules_and_damage_has_none() {
        for is_64 in [true, false] {
            let whole = image(is_64, &[(0, b"module"), (2, b"search x"), (3, b"/EFI/debian\0")]);
            assert_eq!(prefix(&whole).as_deref(), Some("/EFI/debian"));
            for len in 0..whole.len() - 8 {
                assert!(prefix(&whole[..len]).is_none_or(|found| "/EFI/debian".starts_with(&found)));
            }
            for at in 16..whole.len() {
                let mut damaged = whole.clone();
                damaged[at] ^= 0xff;
                prefix(&damaged);
            }
            assert_eq!(prefix(&image(is_64, &[(0, b"module")])), None);
        }
    }

    #[test]
    fn images_of_grub_mkimage_and_of_debian_say_what_they_were_built_with() {
        let folder = tempfile::tempdir().unwrap();
        let signed = deb::cached("grub-efi-amd64-signed").unwrap();
        let read = |file: &Path| std::fs::read(file).unwrap();
        let debian = read(&signed.join("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"));
        assert_eq!(prefix(&debian).as_deref(), Some("/EFI/debian"));

        let modules = deb::cached("grub-efi-amd64-bin").unwrap().join("usr/lib/grub/x86_64-efi");
        let file = folder.path().join("core.efi");
        for given in ["/EFI/centos", "(,gpt2)/boot/grub"] {
            let mut command = tool::command("grub-mkimage", ["-O", "x86_64-efi", "-p", given, "-o"]);
            tool::finish(command.arg(&file).arg("-d").arg(&modules).args(["normal", "fat"])).unwrap();
            assert_eq!(prefix(&read(&file)).as_deref(), Some(given));
        }
    }
}
