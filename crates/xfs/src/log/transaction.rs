//! Records → transactions: regions put together over records (`xlog_recover_process_data`).

use std::collections::BTreeMap;

use ondisk::{be_u32, le_u16, le_u32};

use super::record::Record;
use crate::error::{Result, corrupt};

const COMMIT: u8 = 2;
const CONTINUE: u8 = 4;
const WAS_CONTINUED: u8 = 8;
const START: u8 = 1;
const END: u8 = 0x10;
const UNMOUNT: u8 = 0x20;
/// `XFS_TRANS_HEADER_MAGIC`: "TRAN".
const HEADER_MAGIC: u32 = 0x5452_414e;
const HEADER_LEN: usize = 16;
/// Bytes of transactions that are not complete yet.
const MOST_BYTES: usize = 256 << 20;
/// Regions of one item.
const MOST_REGIONS: u16 = 4096;

/// One item of a transaction: its format, then what it says.
#[derive(Debug, Default)]
pub(crate) struct Item {
    pub regions: Vec<Vec<u8>>,
    wanted: u16,
}

impl Item {
    /// Type of the item (`XFS_LI_*`).
    pub fn kind(&self) -> u16 {
        self.regions.first().map_or(0, |format| le_u16(format, 0))
    }

    /// The format region.
    pub fn format(&self) -> &[u8] {
        self.regions.first().map_or(&[], |region| region)
    }
}

/// A transaction that was committed.
pub(crate) struct Transaction {
    /// Number of the record in which it began.
    pub lsn: u64,
    pub items: Vec<Item>,
}

#[derive(Default)]
struct Open {
    lsn: u64,
    header: Vec<u8>,
    items: Vec<Item>,
}

/// Transactions under way.
#[derive(Default)]
pub(crate) struct Transactions {
    open: BTreeMap<u32, Open>,
    bytes: usize,
}

impl Transactions {
    /// Takes in a record; gives each transaction that is committed in it to `commit`, in order.
    pub fn take(&mut self, record: &Record, commit: &mut dyn FnMut(Transaction) -> Result<()>) -> Result<()> {
        let wrong =
            |detail: String| corrupt("xfs.log.operation", format!("log sector {}", record.at), detail);
        let mut rest = &record.data[..];
        for _ in 0..record.operations {
            let Some((head, behind)) = rest.split_at_checked(12) else {
                return Err(wrong("an operation lies outside its record".into()));
            };
            let (id, len, client, flags) = (be_u32(head, 0), be_u32(head, 4) as usize, head[8], head[9]);
            let Some((data, behind)) = behind.split_at_checked(len) else {
                return Err(wrong(format!("an operation of {len} bytes lies outside its record")));
            };
            rest = behind;
            if client != 0x69 && client != 0xaa {
                return Err(wrong(format!("an operation of client {client:#x}")));
            }
            self.bytes += len;
            if self.bytes > MOST_BYTES {
                return Err(wrong("transactions of more than 256 MiB".into()));
            }
            if flags & START != 0 {
                self.open.insert(id, Open { lsn: record.lsn, ..Open::default() });
                continue;
            }
            let Some(open) = self.open.get_mut(&id) else { continue };
            let mut flags = flags & !END;
            if flags & WAS_CONTINUED != 0 {
                flags &= !CONTINUE;
            }
            match flags {
                0 | CONTINUE => open.add(data).map_err(wrong)?,
                WAS_CONTINUED => open.extend(data).map_err(wrong)?,
                COMMIT => {
                    let Some(open) = self.open.remove(&id) else { continue };
                    let len = |item: &Item| item.regions.iter().map(Vec::len).sum::<usize>();
                    let bytes: usize = open.items.iter().map(len).sum();
                    self.bytes = self.bytes.saturating_sub(bytes + open.header.len());
                    if open.items.iter().any(|item| item.regions.len() != usize::from(item.wanted)) {
                        return Err(wrong("a committed item is not complete".into()));
                    }
                    commit(Transaction { lsn: open.lsn, items: open.items })?;
                }
                UNMOUNT => {
                    self.open.remove(&id);
                }
                other => return Err(wrong(format!("an operation with flags {other:#x}"))),
            }
        }
        Ok(())
    }
}

impl Open {
    fn add(&mut self, data: &[u8]) -> std::result::Result<(), String> {
        if data.is_empty() {
            return Ok(());
        }
        if self.header.len() < HEADER_LEN {
            return self.add_header(data);
        }
        if self.items.last().is_none_or(|item| item.regions.len() == usize::from(item.wanted)) {
            if data.len() < 4 {
                return Err(format!("an item whose format has {} bytes", data.len()));
            }
            let wanted = le_u16(data, 2);
            if wanted == 0 || wanted > MOST_REGIONS {
                return Err(format!("an item of {wanted} regions"));
            }
            self.items.push(Item { regions: Vec::new(), wanted });
        }
        if let Some(item) = self.items.last_mut() {
            item.regions.push(data.to_vec());
        }
        Ok(())
    }

    /// The transaction's own header, which may come in two parts.
    fn add_header(&mut self, data: &[u8]) -> std::result::Result<(), String> {
        self.header.extend(data);
        let is_header = self.header.len() <= HEADER_LEN
            && (self.header.len() < 4 || le_u32(&self.header, 0) == HEADER_MAGIC);
        if is_header { Ok(()) } else { Err("a transaction without its header".into()) }
    }

    fn extend(&mut self, data: &[u8]) -> std::result::Result<(), String> {
        if self.header.len() < HEADER_LEN {
            return self.add_header(data);
        }
        match self.items.last_mut().and_then(|item| item.regions.last_mut()) {
            Some(region) => region.extend(data),
            None => return Err("a continued region that has no beginning".into()),
        }
        Ok(())
    }
}
