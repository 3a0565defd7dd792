//! Raw to raw without the bytes passing through this process.

use std::fs::File;

use block::{BlockError, HostFile};
use rustix::io::Errno;

use crate::error::{Place, Stage};
use crate::{ConvertError, FastPath, PieceKind, Source, WholeFormat};

/// Filesystems whose server copies by itself (Linux, include/uapi/linux/magic.h and fs/smb/common): NFS, SMB, SMB2, CephFS.
const REMOTE: [i128; 4] = [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x00c3_6400];

/// Makes `target` share the blocks of a raw source, or has the server copy them. `None`: the engine must do it.
pub(crate) fn clone_raw(
    source: &dyn Source,
    target: &dyn HostFile,
) -> Result<Option<FastPath>, ConvertError> {
    let Some(whole) = source.whole_file().filter(|whole| whole.format == WholeFormat::Raw) else {
        return Ok(None);
    };
    let Some(file) = target.system_file().filter(|_| whole.len == source.len()) else { return Ok(None) };
    if rustix::fs::ioctl_ficlone(file, whole.file).is_ok() {
        return Ok(Some(FastPath::Reflink));
    }
    if !is_remote(whole.file) || !is_remote(file) {
        return Ok(None);
    }
    let copied = copy_in_kernel(source, whole.file, file)?;
    Ok(copied.then_some(FastPath::CopyFileRange))
}

fn is_remote(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|stat| REMOTE.contains(&i128::from(stat.f_type)))
}

/// Copies the data of a raw source; holes stay. False when the host does not copy between these files.
fn copy_in_kernel(source: &dyn Source, from: &File, to: &File) -> Result<bool, ConvertError> {
    let mut at = 0;
    while at < source.len() {
        for piece in source.map(at..source.len(), crate::units::MAP_PIECES)? {
            at = piece.end();
            let PieceKind::Host { host_offset, .. } = piece.kind else { continue };
            let mut done = 0;
            while done < piece.len {
                let (mut read_at, mut write_at) = (host_offset + done, piece.offset + done);
                let step = (piece.len - done).min(1 << 30) as usize;
                let range = write_at..write_at + step as u64;
                match rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), step) {
                    Ok(0) => return Ok(false),
                    Ok(copied) => done += copied as u64,
                    Err(Errno::INTR) => {}
                    Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                        return Ok(false);
                    }
                    Err(errno) => {
                        let error = BlockError::io("copy", "target", errno.into());
                        return Err(ConvertError::host(Place::of(Stage::Write).host(range), error));
                    }
                }
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::RawSource;

    #[test]
    fn the_kernel_copies_data_and_leaves_holes() {
        let dir = tempfile::tempdir().unwrap();
        let from = File::create_new(dir.path().join("from")).unwrap();
        from.set_len(6 << 20).unwrap();
        from.write_all_at(&[7; 300_001], 2_000_000).unwrap();
        from.write_all_at(&[8; 3], (6 << 20) - 3).unwrap();
        let to = File::create_new(dir.path().join("to")).unwrap();
        to.set_len(6 << 20).unwrap();
        let image =
            block::ImageFile::open(&dir.path().join("from"), block::Access::Read, &report::Silent).unwrap();
        let source = RawSource::new(&image);
        assert!(copy_in_kernel(&source, source.whole_file().unwrap().file, &to).unwrap());
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        assert!(read("from") == read("to"));
    }
}
