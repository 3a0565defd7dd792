//! Names of modules as the kernel and kmod compare them.

use crate::Compression;

/// The name of the module whose file is at `path`: base name up to `.ko`, `-` as `_`; `None` for other files.
pub fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = [".ko", ".ko.gz", ".ko.xz", ".ko.zst"].iter().find_map(|suffix| file.strip_suffix(suffix))?;
    // kmod cuts at the first dot.
    let stem = stem.split('.').next().unwrap_or(stem);
    (!stem.is_empty()).then(|| normalized(stem))
}

/// A module's name with every `-` as `_`.
pub(crate) fn normalized(name: &str) -> String {
    name.replace('-', "_")
}

/// How a module file is compressed, by its name.
pub(crate) fn module_compression(path: &str) -> Compression {
    match path.rsplit('.').next() {
        Some("gz") => Compression::Gzip,
        Some("xz") => Compression::Xz,
        Some("zst") => Compression::Zstd,
        _ => Compression::None,
    }
}

/// The path of the uncompressed form of a module file.
pub(crate) fn plain_path(path: &str) -> &str {
    [".gz", ".xz", ".zst"].iter().find_map(|suffix| path.strip_suffix(suffix)).unwrap_or(path)
}

/// An alias pattern as kmod stores it: `-` as `_` outside `[…]`; `None` when brackets do not pair.
pub(crate) fn normalized_alias(alias: &str) -> Option<String> {
    let mut normalized = String::with_capacity(alias.len());
    let mut is_in_brackets = false;
    for letter in alias.chars() {
        match letter {
            '-' if !is_in_brackets => {
                normalized.push('_');
                continue;
            }
            '[' => is_in_brackets = true,
            ']' if !is_in_brackets => return None,
            ']' => is_in_brackets = false,
            _ => {}
        }
        normalized.push(letter);
    }
    (!is_in_brackets).then_some(normalized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_module_files() {
        assert_eq!(module_name("kernel/drivers/block/virtio_blk.ko.xz").as_deref(), Some("virtio_blk"));
        assert_eq!(module_name("a/crc32c-intel.ko").as_deref(), Some("crc32c_intel"));
        assert_eq!(module_name("modules.dep"), None);
        assert_eq!(module_name(".ko"), None);
    }

    #[test]
    fn aliases_keep_brackets() {
        assert_eq!(normalized_alias("fs-ext4").as_deref(), Some("fs_ext4"));
        assert_eq!(normalized_alias("usb:v[0-9]p-").as_deref(), Some("usb:v[0-9]p_"));
        assert_eq!(normalized_alias("a]"), None);
        assert_eq!(normalized_alias("a["), None);
    }
}
