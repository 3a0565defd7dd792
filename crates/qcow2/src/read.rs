//! The virtual disk as a device.

use std::ops::Range;
use std::sync::Arc;

use block::{BlockError, Extent, ExtentState, ReadAt};

use crate::error::Qcow2Error;
use crate::image::Qcow2;
use crate::map::Mapping;

impl Qcow2 {
    fn check_range(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.header.virtual_size => Ok(()),
            _ => Err(BlockError::PastEnd {
                layer: self.path.display().to_string(),
                offset,
                len,
                device_len: self.header.virtual_size,
            }),
        }
    }

    /// Bytes of the host file; zero past its end, as QEMU reads them.
    fn read_host(&self, buf: &mut [u8], host_offset: u64) -> Result<(), Qcow2Error> {
        let present = self.file_len.saturating_sub(host_offset).min(buf.len() as u64) as usize;
        let (stored, missing) = buf.split_at_mut(present);
        if !stored.is_empty() {
            self.file.read_exact_at(stored, host_offset)?;
        }
        missing.fill(0);
        Ok(())
    }

    fn read_backing(&self, buf: &mut [u8], guest_offset: u64) -> Result<(), Qcow2Error> {
        let present = self.backing_len().saturating_sub(guest_offset).min(buf.len() as u64) as usize;
        let (below, beyond) = buf.split_at_mut(present);
        if let Some(backing) = self.backing.as_ref().filter(|_| !below.is_empty()) {
            backing.device.read_exact_at(below, guest_offset)?;
        }
        beyond.fill(0);
        Ok(())
    }

    /// Guest bytes that the backing file covers; 0 without one.
    pub(crate) fn backing_len(&self) -> u64 {
        self.backing.as_ref().map_or(0, |backing| backing.device.len())
    }

    fn inflate_into(&self, cluster: &mut [u8], host_offset: u64, payload_len: u64) -> Result<(), Qcow2Error> {
        // The sector count is an upper bound: the file may end before it.
        let payload_len = payload_len.min(self.file_len.saturating_sub(host_offset));
        let mut payload = vec![0; payload_len as usize];
        self.file.read_exact_at(&mut payload, host_offset)?;
        self.decoders
            .decode(&payload, cluster)
            .map_err(|error| self.damaged("qcow2.compressed", host_offset, error.to_string()))
    }

    /// A compressed cluster, whole.
    pub(crate) fn inflated_cluster(
        &self,
        host_offset: u64,
        payload_len: u64,
    ) -> Result<Arc<Vec<u8>>, Qcow2Error> {
        self.inflated(host_offset, || {
            let mut cluster = vec![0; self.cluster_size() as usize];
            self.inflate_into(&mut cluster, host_offset, payload_len)?;
            Ok(cluster)
        })
    }

    fn read_compressed(
        &self,
        buf: &mut [u8],
        within: u64,
        host_offset: u64,
        payload_len: u64,
    ) -> Result<(), Qcow2Error> {
        if buf.len() as u64 == self.cluster_size() {
            return self.inflate_into(buf, host_offset, payload_len);
        }
        let cluster = self.inflated_cluster(host_offset, payload_len)?;
        let within = within as usize;
        if let Some(part) = cluster.get(within..within + buf.len()) {
            buf.copy_from_slice(part);
        }
        Ok(())
    }

    fn read_guest(&self, buf: &mut [u8], guest_offset: u64) -> Result<(), Qcow2Error> {
        let mut rest = buf;
        let mut at = guest_offset;
        while !rest.is_empty() {
            let (mapping, len) = self.map(at, rest.len() as u64)?;
            let (part, behind) = rest.split_at_mut(len as usize);
            match mapping {
                Mapping::Data { host_offset } => self.read_host(part, host_offset)?,
                Mapping::Zero => part.fill(0),
                Mapping::Unallocated => self.read_backing(part, at)?,
                Mapping::Compressed { host_offset, payload_len } => {
                    self.read_compressed(part, at % self.cluster_size(), host_offset, payload_len)?
                }
            }
            rest = behind;
            at += len;
        }
        Ok(())
    }

    fn guest_extents(&self, range: Range<u64>) -> Result<Vec<Extent>, Qcow2Error> {
        let mut extents = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let (mapping, len) = self.map(at, range.end - at)?;
            let state = match mapping {
                Mapping::Data { .. } => ExtentState::Data,
                Mapping::Zero => ExtentState::Zero,
                Mapping::Compressed { .. } => ExtentState::Compressed,
                Mapping::Unallocated => {
                    let covered = self.backing_len().clamp(at, at + len);
                    if let Some(backing) = self.backing.as_ref().filter(|_| covered > at) {
                        for extent in backing.device.extents(at..covered)? {
                            push(&mut extents, extent);
                        }
                    }
                    push(
                        &mut extents,
                        Extent { offset: covered, len: at + len - covered, state: ExtentState::Hole },
                    );
                    at += len;
                    continue;
                }
            };
            push(&mut extents, Extent { offset: at, len, state });
            at += len;
        }
        Ok(extents)
    }
}

/// Appends, joining with an equal neighbour.
fn push(extents: &mut Vec<Extent>, more: Extent) {
    match extents.last_mut() {
        _ if more.len == 0 => {}
        Some(last) if last.state == more.state && last.offset + last.len == more.offset => {
            last.len += more.len
        }
        _ => extents.push(more),
    }
}

impl ReadAt for Qcow2 {
    fn len(&self) -> u64 {
        self.header.virtual_size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.check_range(offset, buf.len() as u64)?;
        Ok(self.read_guest(buf, offset)?)
    }

    fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        self.check_range(range.start, range.end.saturating_sub(range.start))?;
        Ok(self.guest_extents(range)?)
    }
}
