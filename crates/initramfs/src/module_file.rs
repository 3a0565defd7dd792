//! Module files of one kernel: unpacked, checked, read once for the indexes.

use crate::decode::unpack_file;
use crate::elf::ModuleElf;
use crate::{InitramfsError, Limits};

/// Unpacked size of a module at most; the largest of distribution kernels stay below 100 MiB.
const MODULE_MAX: u64 = 256 << 20;

/// Unpacks a module file and checks that it belongs to the kernel.
pub(crate) fn load_module(
    kver: &str,
    path: &str,
    stored: &[u8],
    limits: &Limits,
) -> Result<(Vec<u8>, ModuleElf), InitramfsError> {
    let bytes = unpack_file(stored, MODULE_MAX, limits)?;
    let fail =
        |code: &'static str, detail: String| InitramfsError::Module { path: path.to_string(), code, detail };
    let elf = ModuleElf::parse(&bytes).map_err(|detail| fail("initramfs.module.elf", detail))?;
    let vermagic = elf.values("vermagic").next().unwrap_or("");
    if vermagic.split(' ').next() != Some(kver) {
        let detail = format!("built for {vermagic:?}; expected kernel {kver}");
        return Err(fail("initramfs.module.vermagic", detail));
    }
    Ok((bytes, elf))
}
