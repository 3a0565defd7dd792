//! Small reads of a device that does not change, kept in memory.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use crate::{BlockError, Extent, ReadAt};

/// Bytes that one miss reads and one entry keeps.
const CHUNK: u64 = 16 << 10;
/// Chunks that are kept at most: 16 MiB.
const CHUNKS_MAX: usize = 1024;
/// Longer reads go to the device: their bytes are seldom read twice.
const LEN_MAX: usize = 64 << 10;

/// A read cache over a device whose bytes do not change while it is open.
///
/// Path walks read the same inodes and directories again and again; each read of a few bytes is a system call
/// (and for qcow2 a walk through its tables) without this.
pub struct ReadCache {
    device: Arc<dyn ReadAt>,
    chunks: Mutex<HashMap<u64, Arc<[u8]>>>,
}

impl ReadCache {
    /// An empty cache over `device`.
    pub fn new(device: Arc<dyn ReadAt>) -> Self {
        Self { device, chunks: Mutex::new(HashMap::new()) }
    }

    /// The chunk of this number, as far as the device reaches.
    fn chunk(&self, number: u64) -> Result<Arc<[u8]>, BlockError> {
        if let Ok(chunks) = self.chunks.lock()
            && let Some(chunk) = chunks.get(&number)
        {
            return Ok(Arc::clone(chunk));
        }
        let start = number * CHUNK;
        let mut bytes = vec![0; self.device.len().saturating_sub(start).min(CHUNK) as usize];
        self.device.read_exact_at(&mut bytes, start)?;
        let chunk: Arc<[u8]> = bytes.into();
        if let Ok(mut chunks) = self.chunks.lock() {
            if chunks.len() >= CHUNKS_MAX {
                chunks.clear();
            }
            chunks.insert(number, Arc::clone(&chunk));
        }
        Ok(chunk)
    }
}

impl ReadAt for ReadCache {
    fn len(&self) -> u64 {
        self.device.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len());
        if buf.len() > LEN_MAX || end.is_none() {
            return self.device.read_exact_at(buf, offset);
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let chunk = match self.chunk(at / CHUNK) {
                Ok(chunk) => chunk,
                // The bytes that are asked for may be readable though their neighbours are not.
                Err(_) => return self.device.read_exact_at(&mut buf[done..], at),
            };
            let from = (at % CHUNK) as usize;
            let part = chunk.get(from..).unwrap_or_default();
            let len = part.len().min(buf.len() - done);
            if len == 0 {
                return self.device.read_exact_at(&mut buf[done..], at);
            }
            buf[done..done + len].copy_from_slice(&part[..len]);
            done += len;
        }
        Ok(())
    }

    fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        self.device.extents(range)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::MemoryDevice;

    struct Counted(MemoryDevice, AtomicUsize);

    impl ReadAt for Counted {
        fn len(&self) -> u64 {
            self.0.len()
        }

        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.read_exact_at(buf, offset)
        }
    }

    #[test]
    fn reads_as_the_device_does_and_asks_it_once() {
        let bytes: Vec<u8> = (0..100_003u32).map(|number| (number * 7 / 3) as u8).collect();
        let device = Arc::new(Counted(MemoryDevice::new(bytes.clone()), AtomicUsize::new(0)));
        let cache = ReadCache::new(Arc::clone(&device) as Arc<dyn ReadAt>);
        for _ in 0..3 {
            for start in (0..bytes.len()).step_by(977) {
                for len in [0, 1, 511, 16_384, 40_000] {
                    let end = (start + len).min(bytes.len());
                    let mut got = vec![0xee; end - start];
                    cache.read_exact_at(&mut got, start as u64).unwrap();
                    assert!(got == bytes[start..end], "{start}..{end}");
                }
            }
        }
        assert_eq!(device.1.load(Ordering::Relaxed), bytes.len().div_ceil(CHUNK as usize));
        let mut long = vec![0; LEN_MAX + 1];
        cache.read_exact_at(&mut long, 5).unwrap();
        assert!(long == bytes[5..5 + long.len()]);
        assert!(cache.read_exact_at(&mut [0; 2], bytes.len() as u64 - 1).is_err());
        assert!(cache.read_exact_at(&mut [0; 2], u64::MAX).is_err());
    }

    #[test]
    fn never_holds_more_than_its_bound() {
        let device: Arc<dyn ReadAt> =
            Arc::new(MemoryDevice::new(vec![1; (CHUNKS_MAX + 10) * CHUNK as usize]));
        let cache = ReadCache::new(device);
        for number in 0..CHUNKS_MAX as u64 + 10 {
            cache.read_exact_at(&mut [0], number * CHUNK).unwrap();
            assert!(cache.chunks.lock().unwrap().len() <= CHUNKS_MAX);
        }
    }
}
