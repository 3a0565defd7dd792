//! Arguments of `convert`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Copy an image into another file, format or compression.
#[derive(Debug, Clone, Args)]
pub struct ConvertArgs {
    /// Image to read; `-` is standard input.
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// File or block device to write; `-` is standard output.
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub target: FormatArgs,
    #[command(flatten)]
    pub guest: GuestArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// What is done with the guest on the way.
#[derive(Debug, Clone, Args)]
pub struct GuestArgs {
    /// Make OUT meet this profile (a name or a file), as `coldfit fix` does. IN is read once and never written.
    #[arg(long, value_name = "PROFILE", help_heading = "Guest")]
    pub fix: Option<String>,
    /// Only these rules.
    #[arg(long, value_name = "RULE", value_delimiter = ',', requires = "fix", help_heading = "Guest")]
    pub only: Vec<String>,
    /// All rules but these.
    #[arg(
        long,
        value_name = "RULE",
        value_delimiter = ',',
        requires = "fix",
        conflicts_with = "only",
        help_heading = "Guest"
    )]
    pub skip: Vec<String>,
    /// Decide a contradiction or choice of the profile; may be given again.
    #[arg(long, value_name = "SWITCH=VALUE", value_parser = super::args::parse_setting, requires = "fix", help_heading = "Guest")]
    pub set: Vec<(String, String)>,
    /// Do the rest where a rule cannot be met because a file cannot be read or edited; without it nothing is done.
    #[arg(long, requires = "fix", help_heading = "Guest")]
    pub keep_going: bool,
    /// Leave out what the guest's filesystems and swap partitions hold as free; with --fix it is so without asking.
    #[arg(long, help_heading = "Guest")]
    pub skip_free: bool,
    /// Copy free space, too.
    #[arg(long, conflicts_with = "skip_free", help_heading = "Guest")]
    pub keep_free: bool,
    /// Which filesystem is the root, by partition number, UUID= or LABEL=; needed only when several could be.
    #[arg(long, value_name = "VOLUME", requires = "fix", help_heading = "Guest")]
    pub root: Option<String>,
    /// Logical sector size of the disk: 512 or 4096; found out from the partition table when not given.
    #[arg(long, value_name = "BYTES", help_heading = "Guest", value_parser = super::args::parse_sector_size)]
    pub sector_size: Option<u32>,
    /// Memory for changed blocks before they go to a temporary file, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64, help_heading = "Guest",
          value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub edit_memory: u64,
    /// Directory for the temporary file; the system's own when not given.
    #[arg(long, value_name = "DIR", help_heading = "Guest")]
    pub temp_dir: Option<PathBuf>,
}

/// How the input is opened.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// Format of IN; found out from its first bytes when not given.
    #[arg(short = 'f', long = "input-format", value_enum, value_name = "FORMAT", help_heading = "Image")]
    pub input_format: Option<SourceFormat>,
    /// Follow backing files of IN, but only to files below DIR.
    #[arg(long, value_name = "DIR", help_heading = "Image")]
    pub allow_backing: Option<PathBuf>,
}

/// Formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SourceFormat {
    /// The bytes of the disk, one after the other.
    Raw,
    /// QEMU copy-on-write, versions 2 and 3.
    Qcow2,
    /// VHD, fixed or dynamic; `vpc` as for qemu-img.
    #[value(alias = "vpc")]
    Vhd,
    /// The disk in a gzip stream.
    Gz,
    /// The disk in an xz stream.
    Xz,
    /// The disk in a Zstandard stream.
    Zst,
    /// `disk.raw` in a tar archive, gzip around it.
    #[value(name = "tar.gz", alias = "tgz")]
    TarGz,
}

/// What is made.
#[derive(Debug, Clone, Args)]
pub struct FormatArgs {
    /// Format of OUT; from its name when not given (.qcow2, .vhd, .gz, …), else raw.
    #[arg(short = 'O', long, value_enum, value_name = "FORMAT", help_heading = "Target")]
    pub output_format: Option<OutputFormat>,
    /// Options of the format, as qemu-img names them: cluster_size=, compat=, compression_type=, backing_file=,
    /// backing_fmt= of qcow2, subformat= of vhd; level= of gz, xz, zst and tar.gz.
    #[arg(short = 'o', long, value_name = "KEY=VALUE", value_delimiter = ',', help_heading = "Target")]
    pub options: Vec<String>,
    /// Compress, with the codec of compression_type (zlib when not given).
    #[arg(short = 'c', help_heading = "Target")]
    pub is_compressed: bool,
    /// Compress with this codec and level: zlib, zlib:9, zstd, zstd:4.
    #[arg(long, value_name = "CODEC[:LEVEL]", help_heading = "Target")]
    pub compress: Option<String>,
    /// Greatest distance inside zlib streams: strict (4096 bytes, every reader) or wide (32 KiB, about 4 % smaller;
    /// QEMU reads it, a reader with a true window of 4096 bytes does not).
    #[arg(long, value_enum, default_value_t = Window::Strict, help_heading = "Target")]
    pub window: Window,
    /// Speed before size.
    #[arg(long, help_heading = "Target")]
    pub fast: bool,
    /// Keep FILE as the backing file of OUT and copy only what IN stores itself; FILE must be IN's own backing file.
    #[arg(short = 'B', long, value_name = "FILE", help_heading = "Target")]
    pub backing: Option<String>,
    /// Format of the backing file: raw or qcow2.
    #[arg(short = 'F', long, value_name = "FORMAT", requires = "backing", help_heading = "Target")]
    pub backing_format: Option<String>,
    /// Runs of zero of at least SIZE become holes of a raw OUT; 0 writes all of it.
    #[arg(short = 'S', long, value_name = "SIZE", value_parser = parse_size, default_value = "4K", help_heading = "Target")]
    pub sparse: u64,
    /// OUT is there already (a file or block device as long as the disk) and is written into.
    #[arg(short = 'n', long, conflicts_with = "force", help_heading = "Target")]
    pub no_create: bool,
    /// Replace OUT when it exists.
    #[arg(long, help_heading = "Target")]
    pub force: bool,
}

/// Formats that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// The bytes of the disk, one after the other.
    Raw,
    /// QEMU copy-on-write.
    Qcow2,
    /// VHD, dynamic unless subformat=fixed, always with the exact size; `vpc` as for qemu-img.
    #[value(alias = "vpc")]
    Vhd,
    /// The disk as a gzip stream.
    Gz,
    /// The disk as an xz stream.
    Xz,
    /// The disk as a Zstandard stream.
    Zst,
    /// `disk.raw` in a tar archive, gzip around it: what Google Compute Engine imports.
    #[value(name = "tar.gz", alias = "tgz")]
    TarGz,
}

/// `--window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Window {
    /// 4096 bytes.
    Strict,
    /// 32 KiB.
    Wide,
}

/// How the work is done. None of it but `--window`, levels and formats shows in the bytes of OUT.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    /// Show progress even when standard error is no terminal.
    #[arg(short, long, help_heading = "Work")]
    pub progress: bool,
    /// Threads; all that this process may use when not given.
    #[arg(short = 'm', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Work")]
    pub threads: Option<u16>,
    /// Memory for data on its way, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u64).range(8..=1 << 20),
          help_heading = "Work")]
    pub memory: u64,
    /// Write past the page cache: auto (where OUT takes it), always, never.
    #[arg(long, value_enum, default_value_t = Direct::Auto, value_name = "WHEN", help_heading = "Work")]
    pub direct: Direct,
    /// Do not wait until OUT is durable; a power cut may leave it incomplete.
    #[arg(long, help_heading = "Work")]
    pub no_sync: bool,
    /// Print a digest of the disk's content, the same for every format.
    #[arg(long, help_heading = "Work")]
    pub digest: bool,
    /// Print a checksum of the file OUT.
    #[arg(long, value_enum, value_name = "KIND", help_heading = "Work")]
    pub checksum: Option<Checksum>,
    /// Decode compressed clusters that are moved as they are, to see that they decode.
    #[arg(long, help_heading = "Work")]
    pub verify: bool,
}

/// `--direct`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direct {
    /// Where OUT takes it.
    Auto,
    /// Fail where it does not.
    Always,
    /// Through the page cache.
    Never,
}

/// `--checksum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Checksum {
    /// SHA-256.
    Sha256,
}

/// `4096`, `64K`, `2M`, `1G`, `1T`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        Some((at, 't' | 'T')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is no size such as 4096, 64K or 2M"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("64K"), Ok(65536));
        assert_eq!(parse_size("2m"), Ok(2 << 20));
        assert_eq!(parse_size("1T"), Ok(1 << 40));
        for wrong in ["", "K", "-1", "1.5M", "64KB", "99999999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
