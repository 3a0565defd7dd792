//! The disk in a stream, from front to back.

use std::io::Read;

use crate::input::Input;
use crate::tarball::{self, Member};
use crate::{ArchiveError, Compression};

/// Bounds on reading.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of memory that a decoder may use for its window.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 128 << 20 }
    }
}

/// The next part of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes are in the buffer.
    Data(usize),
    /// So many bytes are zero and were not in the archive.
    Hole(u64),
    /// The disk is complete, and so is the stream: every checksum was right.
    End,
}

enum Body {
    /// The stream is the disk; its first bytes, as far as they are not handed out.
    Whole {
        head: Vec<u8>,
        at: usize,
    },
    /// The disk is a member of a tar archive.
    Member(Member),
    Ended,
}

/// Reads the disk in a stream.
pub struct DiskStream {
    input: Input,
    compression: Compression,
    body: Body,
    len: Option<u64>,
    is_tar: bool,
}

/// Images that are recognised inside a stream.
const IMAGES: &[(&str, &[u8])] = &[
    ("qcow2", b"QFI\xfb"),
    ("VHD", b"conectix"),
    ("VHDX", b"vhdxfile"),
    ("VMDK", b"KDMV"),
    ("VMDK", b"# Disk DescriptorFile"),
];

impl DiskStream {
    /// A stream that is the disk, whatever its bytes look like.
    pub fn raw(inner: Box<dyn Read + Send>) -> Result<Self, ArchiveError> {
        let input = Input::new(inner, Compression::None, &Limits::default())?;
        let body = Body::Whole { head: Vec::new(), at: 0 };
        Ok(Self { input, compression: Compression::None, body, len: None, is_tar: false })
    }

    /// Opens a stream compressed like this. A tar archive inside is recognised; an image in another format than raw is
    /// refused.
    pub fn new(
        inner: Box<dyn Read + Send>,
        compression: Compression,
        limits: &Limits,
    ) -> Result<Self, ArchiveError> {
        let mut input = Input::new(inner, compression, limits)?;
        let mut head = vec![0; tarball::BLOCK];
        let len = input.read_up_to(&mut head)?;
        head.truncate(len);
        if let Some((format, _)) = IMAGES.iter().find(|(_, magic)| head.starts_with(magic)) {
            return Err(ArchiveError::Content { format });
        }
        let is_tar = tarball::is_header(&head);
        let (body, len) = if is_tar {
            let member = Member::open(&mut input, &head)?;
            let len = Some(member.len());
            (Body::Member(member), len)
        } else {
            (Body::Whole { head, at: 0 }, None)
        };
        Ok(Self { input, compression, body, len, is_tar })
    }

    /// Length of the disk, where the stream says so before its end.
    pub fn disk_len(&self) -> Option<u64> {
        self.len
    }

    /// How the stream is compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// True when the disk is a member of a tar archive.
    pub fn is_tar(&self) -> bool {
        self.is_tar
    }

    /// Bytes of the stream below that were read, for progress.
    pub fn position(&self) -> u64 {
        self.input.position()
    }

    /// Reads the next part of the disk.
    pub fn read_piece(&mut self, buf: &mut [u8]) -> Result<Piece, ArchiveError> {
        match &mut self.body {
            Body::Whole { head, at } => {
                let rest = head.get(*at..).unwrap_or_default();
                if !rest.is_empty() && !buf.is_empty() {
                    let len = rest.len().min(buf.len());
                    buf[..len].copy_from_slice(&rest[..len]);
                    *at += len;
                    return Ok(Piece::Data(len));
                }
                Ok(match self.input.read(buf)? {
                    0 if !buf.is_empty() => {
                        self.body = Body::Ended;
                        Piece::End
                    }
                    len => Piece::Data(len),
                })
            }
            Body::Member(member) => {
                let piece = member.read_piece(&mut self.input, buf)?;
                if piece == Piece::End {
                    tarball::finish(&mut self.input)?;
                    self.body = Body::Ended;
                }
                Ok(piece)
            }
            Body::Ended => Ok(Piece::End),
        }
    }
}
