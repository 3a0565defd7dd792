//! Table changes of a plan, before they are writes.

use std::collections::BTreeMap;

use block::{HostWrite, WriteSource};

use crate::error::Qcow2Error;
use crate::image::Qcow2;

/// Unit in which existing tables are rewritten.
pub(crate) const SECTOR_BYTES: u64 = 512;

type Sector = [u8; SECTOR_BYTES as usize];

/// The image's tables with planned changes on top: only touched sectors and new tables are held.
pub(crate) struct Meta<'i> {
    image: &'i Qcow2,
    /// Changed sectors of existing tables, by host offset.
    sectors: BTreeMap<u64, Box<Sector>>,
    /// New tables of one cluster each, by cluster index.
    fresh: BTreeMap<u64, Vec<u8>>,
}

impl<'i> Meta<'i> {
    pub fn new(image: &'i Qcow2) -> Self {
        Self { image, sectors: BTreeMap::new(), fresh: BTreeMap::new() }
    }

    /// A new table in cluster `index`; its length is the cluster size.
    pub fn add_table(&mut self, index: u64, bytes: Vec<u8>) {
        self.fresh.insert(index, bytes);
    }

    /// The sector that holds `host_offset`.
    pub fn sector(&self, host_offset: u64) -> Result<Sector, Qcow2Error> {
        let start = host_offset - host_offset % SECTOR_BYTES;
        let within = (start % self.image.cluster_size()) as usize;
        let mut sector = [0; SECTOR_BYTES as usize];
        if let Some(table) = self.fresh.get(&(start >> self.image.cluster_bits())) {
            copy_part(&mut sector, table, within);
        } else if let Some(changed) = self.sectors.get(&start) {
            sector = **changed;
        } else {
            let slice = self.image.table_slice(start)?;
            copy_part(&mut sector, &slice, (start % self.image.slice_size()) as usize);
        }
        Ok(sector)
    }

    /// A whole table of one cluster.
    pub fn table(&self, host_offset: u64) -> Result<Vec<u8>, Qcow2Error> {
        let mut table = Vec::with_capacity(self.image.cluster_size() as usize);
        while (table.len() as u64) < self.image.cluster_size() {
            table.extend(self.sector(host_offset + table.len() as u64)?);
        }
        Ok(table)
    }

    /// The entry of 8 bytes at `host_offset`, a multiple of 8.
    pub fn entry(&self, host_offset: u64) -> Result<u64, Qcow2Error> {
        let sector = self.sector(host_offset)?;
        Ok(ondisk::try_be_u64(&sector, (host_offset % SECTOR_BYTES) as usize).unwrap_or(0))
    }

    /// Changes the entry of 8 bytes at `host_offset`, a multiple of 8.
    pub fn set_entry(&mut self, host_offset: u64, value: u64) -> Result<(), Qcow2Error> {
        self.change(host_offset, |sector, within| {
            if let Some(entry) = sector.get_mut(within..within + 8) {
                entry.copy_from_slice(&value.to_be_bytes());
            }
        })
    }

    /// Lets `edit` change the sector that holds `host_offset`; it gets the position inside the sector.
    pub fn change(
        &mut self,
        host_offset: u64,
        edit: impl FnOnce(&mut [u8], usize),
    ) -> Result<(), Qcow2Error> {
        let within = (host_offset % SECTOR_BYTES) as usize;
        let start = host_offset - within as u64;
        let in_cluster = (start % self.image.cluster_size()) as usize;
        let fresh = self.fresh.get_mut(&(start >> self.image.cluster_bits()));
        if let Some(sector) =
            fresh.and_then(|table| table.get_mut(in_cluster..in_cluster + SECTOR_BYTES as usize))
        {
            edit(sector, within);
            return Ok(());
        }
        let mut sector = self.sector(start)?;
        edit(&mut sector, within);
        self.sectors.insert(start, Box::new(sector));
        Ok(())
    }

    /// The writes: new tables first, then changed sectors; those that equal the file are left out.
    pub fn into_writes(self) -> Result<Vec<HostWrite>, Qcow2Error> {
        let cluster_bits = self.image.cluster_bits();
        let mut writes: Vec<HostWrite> = self
            .fresh
            .into_iter()
            .map(|(index, bytes)| HostWrite {
                host_offset: index << cluster_bits,
                source: WriteSource::Bytes(bytes),
            })
            .collect();
        for (host_offset, sector) in self.sectors {
            if self.image.read_padded(host_offset, SECTOR_BYTES)? != sector[..] {
                writes.push(HostWrite { host_offset, source: WriteSource::Bytes(sector.to_vec()) });
            }
        }
        Ok(writes)
    }
}

fn copy_part(sector: &mut Sector, table: &[u8], start: usize) {
    if let Some(part) = table.get(start..start + sector.len()) {
        sector.copy_from_slice(part);
    }
}
