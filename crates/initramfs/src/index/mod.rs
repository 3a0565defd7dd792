//! The files that `depmod` writes and modprobe looks modules up in.

mod binary;
mod depmod;
mod text;

pub use binary::{IndexEntry, decode_index, encode_index};
pub use depmod::{DepmodModule, IndexFiles, generate_builtin_indexes, generate_indexes};
pub(crate) use text::{
    AliasLine, DepLine, SoftDep, lines, parse_aliases, parse_deps, parse_softdeps, parse_weakdeps,
};
