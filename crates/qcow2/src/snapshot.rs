//! The snapshot table.

use std::path::Path;

use block::ReadAt;
use ondisk::{be_u16, be_u32, be_u64};

use crate::error::Qcow2Error;
use crate::header::{Header, MAX_L1_BYTES, check_table, damaged};

/// QEMU's limits (`QCOW_MAX_SNAPSHOTS`, `QCOW_MAX_SNAPSHOTS_SIZE`, `QCOW_MAX_SNAPSHOT_EXTRA_DATA`).
const MAX_SNAPSHOTS: u32 = 65_536;
const MAX_TABLE_BYTES: u64 = 64 << 20;
const MAX_EXTRA_BYTES: u32 = 1024;
/// All L1 tables of snapshots together; QEMU has no such limit.
const MAX_ALL_L1_BYTES: u64 = 1 << 30;

const FIXED_BYTES: usize = 40;

/// One entry of the snapshot table, checked.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub l1_offset: u64,
    pub l1_entries: u64,
    pub id: Vec<u8>,
    pub name: Vec<u8>,
    pub date_sec: u32,
    pub date_nsec: u32,
    pub vm_clock_nsec: u64,
    pub vm_state_size: u64,
    pub disk_size: Option<u64>,
}

/// All snapshots and the bytes of the table.
pub(crate) fn read_table(
    file: &dyn ReadAt,
    header: &Header,
    path: &Path,
) -> Result<(Vec<Snapshot>, u64), Qcow2Error> {
    if header.snapshot_count == 0 {
        return Ok((Vec::new(), 0));
    }
    let limit = |what, limit, found| Qcow2Error::Limit { path: path.to_owned(), what, limit, found };
    if header.snapshot_count > MAX_SNAPSHOTS {
        return Err(limit("number of snapshots", MAX_SNAPSHOTS.into(), header.snapshot_count.into()));
    }
    let file_len = file.len();
    let least = u64::from(header.snapshot_count) * FIXED_BYTES as u64;
    check_table(
        "snapshot table",
        header.snapshots_offset,
        least,
        MAX_TABLE_BYTES,
        header.cluster_bits,
        file_len,
    )
    .map_err(|problem| problem.at(path, 64))?;

    let mut snapshots = Vec::new();
    let mut at = header.snapshots_offset;
    let mut all_l1_bytes = 0u64;
    for index in 0..header.snapshot_count {
        let outside = || {
            damaged(
                path,
                "qcow2.snapshot",
                at,
                format!("expected entry {index} of the snapshot table inside the file, found its end"),
            )
        };
        let mut fixed = [0u8; FIXED_BYTES];
        if at.checked_add(FIXED_BYTES as u64).is_none_or(|end| end > file_len) {
            return Err(outside());
        }
        file.read_exact_at(&mut fixed, at)?;
        let l1_table_offset = be_u64(&fixed, 0);
        let l1_size = be_u32(&fixed, 8);
        let id_len = usize::from(be_u16(&fixed, 12));
        let name_len = usize::from(be_u16(&fixed, 14));
        let extra_len = be_u32(&fixed, 36);
        if extra_len > MAX_EXTRA_BYTES {
            return Err(limit("extra data of a snapshot", MAX_EXTRA_BYTES.into(), extra_len.into()));
        }
        let extra_len = extra_len as usize;
        let mut variable = vec![0u8; extra_len + id_len + name_len];
        let end = at + (FIXED_BYTES + variable.len()) as u64;
        if end > file_len {
            return Err(outside());
        }
        file.read_exact_at(&mut variable, at + FIXED_BYTES as u64)?;
        let (extra, names) = variable.split_at(extra_len);
        let (id, name) = names.split_at(id_len);

        let l1_bytes = u64::from(l1_size) * 8;
        check_table(
            "L1 table of a snapshot",
            l1_table_offset,
            l1_bytes,
            MAX_L1_BYTES,
            header.cluster_bits,
            file_len,
        )
        .map_err(|problem| problem.at(path, at))?;
        all_l1_bytes += l1_bytes;
        if all_l1_bytes > MAX_ALL_L1_BYTES.min(file_len) {
            return Err(limit("size of all L1 tables", MAX_ALL_L1_BYTES.min(file_len), all_l1_bytes));
        }
        snapshots.push(Snapshot {
            l1_offset: l1_table_offset,
            l1_entries: u64::from(l1_size),
            id: id.to_vec(),
            name: name.to_vec(),
            date_sec: be_u32(&fixed, 16),
            date_nsec: be_u32(&fixed, 20),
            vm_clock_nsec: be_u64(&fixed, 24),
            vm_state_size: ondisk::try_be_u64(extra, 0).unwrap_or_else(|| u64::from(be_u32(&fixed, 32))),
            disk_size: ondisk::try_be_u64(extra, 8),
        });
        at = end.next_multiple_of(8);
        let used = at - header.snapshots_offset;
        if used > MAX_TABLE_BYTES {
            return Err(limit("size of the snapshot table", MAX_TABLE_BYTES, used));
        }
    }
    Ok((snapshots, at - header.snapshots_offset))
}
