//! Arguments of `bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Measure how fast this host converts a disk image.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Image whose disk is converted; it is only read.
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// Flows to measure; all when not given.
    #[arg(long, value_enum, value_name = "FLOW", value_delimiter = ',')]
    pub flow: Vec<Flow>,
    /// Numbers of threads; 1, 2, 4, … up to all that this process may use when not given.
    #[arg(short = 'm', long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Vec<u16>,
    /// Counted runs of each, after one that is not counted.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub runs: u16,
    /// Folder for what is made meanwhile, several times the size of the image's data; all of it is deleted. Beside IMAGE
    /// when not given.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Command to run in turn with one flow, {in} and {out} standing for the files: its CPU time and wall time divided by
    /// ours are the ratio of a pair.
    #[arg(long, value_name = "CMD")]
    pub against: Option<String>,
    /// Memory for data on its way, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u64).range(8..=1 << 20))]
    pub memory: u64,
    /// Through the page cache, and not synced.
    #[arg(long)]
    pub buffered: bool,
    /// Write a plot of the throughput, SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// From which form of the disk to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Flow {
    /// raw to raw.
    RawRaw,
    /// raw to qcow2.
    RawQcow2,
    /// qcow2 to raw.
    Qcow2Raw,
    /// raw to qcow2 with zlib.
    RawZlib,
    /// raw to qcow2 with zstd.
    RawZstd,
    /// qcow2 with zlib to raw.
    ZlibRaw,
    /// qcow2 with zstd to raw.
    ZstdRaw,
    /// qcow2 with zlib to the same: clusters are moved as they are.
    ZlibZlib,
    /// qcow2 with zstd to the same.
    ZstdZstd,
}
