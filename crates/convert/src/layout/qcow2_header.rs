//! The first cluster of a new qcow2 image (QEMU, docs/interop/qcow2.txt).

use codec::{Algorithm, Kind};

use crate::{ConvertError, Qcow2Target};

const MAGIC: [u8; 4] = *b"QFI\xfb";
const V2_HEADER_BYTES: usize = 72;
/// With the compression type, padded to 8.
const V3_HEADER_BYTES: usize = 112;
const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
const REFCOUNT_ORDER: u32 = 4;
const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_FEATURE_NAMES: u32 = 0x6803_f857;
const MAX_BACKING_NAME_BYTES: usize = 1023;

/// The names of the specification: kind (0 incompatible, 1 compatible, 2 autoclear), bit, name.
const FEATURE_NAMES: [(u8, u8, &str); 8] = [
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
];

/// Where the tables ended up.
pub(super) struct Tables {
    pub virtual_len: u64,
    pub l1_offset: u64,
    pub l1_entries: u32,
    pub refcount_table_offset: u64,
    pub refcount_table_clusters: u32,
}

fn extension(header: &mut Vec<u8>, kind: u32, data: &[u8]) {
    header.extend(kind.to_be_bytes());
    header.extend((data.len() as u32).to_be_bytes());
    header.extend(data);
    header.resize(header.len().next_multiple_of(8), 0);
}

fn feature_names() -> Vec<u8> {
    let mut table = Vec::new();
    for (kind, bit, name) in FEATURE_NAMES {
        table.extend([kind, bit]);
        let mut padded = name.as_bytes().to_vec();
        padded.resize(46, 0);
        table.extend(padded);
    }
    table
}

/// The header of an image, as long as it needs to be and never longer than a cluster.
pub(super) fn header(target: &Qcow2Target, tables: &Tables) -> Result<Vec<u8>, ConvertError> {
    let is_v3 = target.version >= 3;
    let fixed = if is_v3 { V3_HEADER_BYTES } else { V2_HEADER_BYTES };
    let cluster_len = 1usize << target.cluster_bits;
    let name = target.backing.as_ref().map(|backing| backing.name.as_bytes()).unwrap_or_default();
    let mut extensions = Vec::new();
    if let Some(backing) = &target.backing {
        extension(&mut extensions, EXTENSION_BACKING_FORMAT, backing.format.as_bytes());
    }
    let mut with_names = extensions.clone();
    extension(&mut with_names, EXTENSION_FEATURE_NAMES, &feature_names());
    // The table is a courtesy: where clusters of 512 bytes have no room for it, it is left out.
    if is_v3 && fixed + with_names.len() + 8 + name.len() <= cluster_len {
        extensions = with_names;
    }
    extension(&mut extensions, EXTENSION_END, &[]);
    let name_at = fixed + extensions.len();
    if name.len() > MAX_BACKING_NAME_BYTES || name_at + name.len() > cluster_len {
        return Err(ConvertError::Target {
            code: "convert.target.backing-name",
            what: format!("a backing file name of {} bytes does not fit the header", name.len()),
        });
    }
    let is_zstd = target.compression.map(Algorithm::kind) == Some(Kind::Zstd);
    let mut header = Vec::with_capacity(name_at + name.len());
    header.extend(MAGIC);
    header.extend(target.version.to_be_bytes());
    header.extend(if name.is_empty() { 0 } else { name_at as u64 }.to_be_bytes());
    header.extend((name.len() as u32).to_be_bytes());
    header.extend(target.cluster_bits.to_be_bytes());
    header.extend(tables.virtual_len.to_be_bytes());
    header.extend(0u32.to_be_bytes()); // no encryption
    header.extend(tables.l1_entries.to_be_bytes());
    header.extend(tables.l1_offset.to_be_bytes());
    header.extend(tables.refcount_table_offset.to_be_bytes());
    header.extend(tables.refcount_table_clusters.to_be_bytes());
    header.extend(0u32.to_be_bytes()); // no snapshots
    header.extend(0u64.to_be_bytes());
    if is_v3 {
        let incompatible = if is_zstd { INCOMPATIBLE_COMPRESSION } else { 0 };
        header.extend(incompatible.to_be_bytes());
        header.extend(0u64.to_be_bytes()); // compatible features
        header.extend(0u64.to_be_bytes()); // autoclear features
        header.extend(REFCOUNT_ORDER.to_be_bytes());
        header.extend((V3_HEADER_BYTES as u32).to_be_bytes());
        header.push(u8::from(is_zstd));
        header.resize(V3_HEADER_BYTES, 0);
    }
    header.extend(extensions);
    header.extend(name);
    Ok(header)
}
