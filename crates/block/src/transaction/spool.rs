//! New content of a commit, read once before the first image byte is written.

use std::path::PathBuf;
use std::sync::Arc;

use crate::{BlockError, Host, HostFile};

/// Bytes kept in memory before the rest goes to a scratch file.
const MEMORY_CAP: usize = 64 << 20;

/// An append-only store that is read back in pieces.
pub(crate) struct Spool {
    host: Arc<dyn Host>,
    dir: PathBuf,
    memory: Vec<u8>,
    memory_cap: usize,
    scratch: Option<Box<dyn HostFile>>,
    scratch_len: u64,
}

/// Where a piece lies: in memory below the cap, else in the scratch file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slot {
    Memory(usize),
    Scratch(u64),
}

impl Spool {
    pub(crate) fn new(host: Arc<dyn Host>, dir: PathBuf) -> Self {
        Self { host, dir, memory: Vec::new(), memory_cap: MEMORY_CAP, scratch: None, scratch_len: 0 }
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<Slot, BlockError> {
        if self.memory.len() + bytes.len() <= self.memory_cap {
            let slot = Slot::Memory(self.memory.len());
            self.memory.extend_from_slice(bytes);
            return Ok(slot);
        }
        let scratch = match &mut self.scratch {
            Some(scratch) => scratch,
            none => none.insert(
                self.host
                    .scratch(&self.dir)
                    .map_err(|source| BlockError::io("create a scratch file in", &self.dir, source))?,
            ),
        };
        scratch
            .write_all_at(bytes, self.scratch_len)
            .map_err(|source| BlockError::io("write a scratch file in", &self.dir, source))?;
        let slot = Slot::Scratch(self.scratch_len);
        self.scratch_len += bytes.len() as u64;
        Ok(slot)
    }

    pub(crate) fn read(&self, slot: Slot, buf: &mut [u8]) -> Result<(), BlockError> {
        let lost = || BlockError::Failed { first: "new content was not kept".into() };
        match slot {
            Slot::Memory(start) => {
                let bytes = self.memory.get(start..start + buf.len()).ok_or_else(lost)?;
                buf.copy_from_slice(bytes);
                Ok(())
            }
            Slot::Scratch(start) => self
                .scratch
                .as_ref()
                .ok_or_else(lost)?
                .read_exact_at(buf, start)
                .map_err(|source| BlockError::io("read a scratch file in", &self.dir, source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_from_memory_and_from_the_scratch_file() {
        let mut spool = Spool::new(Arc::new(crate::SystemHost), std::env::temp_dir());
        spool.memory_cap = 1000;
        let pieces: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; 90 + usize::from(n)]).collect();
        let slots: Vec<Slot> = pieces.iter().map(|piece| spool.append(piece).unwrap()).collect();
        assert!(spool.scratch.is_some() && matches!(slots[0], Slot::Memory(0)));
        for (slot, piece) in slots.iter().zip(&pieces) {
            let mut back = vec![0; piece.len()];
            spool.read(*slot, &mut back).unwrap();
            assert_eq!(&back, piece);
        }
    }
}
