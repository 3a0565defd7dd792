//! Unified kernel images: a kernel, its initramfs and its arguments in one program for the firmware.

/// Bytes of a file's beginning that are enough to tell.
const SECTION_HEADER_LEN: usize = 40;
/// Sections that are looked at; real images have about ten.
const SECTIONS_MAX: usize = 96;

/// True when the beginning of a file is that of a program with a `.linux` section (UAPI group, "Unified Kernel
/// Image"). Its arguments stand in a section that is signed together with the kernel.
pub fn is_unified_kernel_image(head: &[u8]) -> bool {
    sections(head).is_some_and(|names| names.iter().any(|name| name == b".linux\0\0"))
}

/// Names in the section table (PE format: MZ header, `e_lfanew` at 0x3c, COFF header, optional header).
fn sections(head: &[u8]) -> Option<Vec<[u8; 8]>> {
    let half = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    if !head.starts_with(b"MZ") {
        return None;
    }
    let coff = usize::try_from(word(0x3c)?).ok()?;
    if coff > head.len() || head.get(coff..coff + 4)? != b"PE\0\0" {
        return None;
    }
    let count = usize::from(half(coff + 6)?).min(SECTIONS_MAX);
    let table = coff + 24 + usize::from(half(coff + 20)?);
    (0..count)
        .map(|index| {
            let at = table + index * SECTION_HEADER_LEN;
            head.get(at..at + 8)?.try_into().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(names: &[&[u8; 8]]) -> Vec<u8> {
        let mut file = b"MZ".to_vec();
        file.resize(0x3c, 0);
        file.extend(0x80u32.to_le_bytes());
        file.resize(0x80, 0);
        file.extend(b"PE\0\0");
        file.extend([0x64, 0x86, names.len() as u8, 0]);
        file.resize(0x80 + 20, 0);
        file.extend(240u16.to_le_bytes());
        file.resize(0x80 + 24 + 240, 0);
        for name in names {
            file.extend(*name);
            file.resize(file.len() + 32, 0);
        }
        file
    }

    #[test]
    fn told_from_other_programs() {
        assert!(is_unified_kernel_image(&program(&[b".text\0\0\0", b".cmdline", b".linux\0\0"])));
        assert!(!is_unified_kernel_image(&program(&[b".text\0\0\0", b".data\0\0\0"])));
        let whole = program(&[b".linux\0\0"]);
        for len in 0..whole.len() - 32 {
            assert!(!is_unified_kernel_image(&whole[..len]));
        }
    }
}
