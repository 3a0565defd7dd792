//! Arguments of every command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::address::{Address, Place};
use super::batch::{BatchArgs, ReportCommand};
use super::bench::BenchArgs;
use super::convert::ConvertArgs;
use super::mode::{ModeChange, Owner};
use crate::commands::diff::DiffArgs;

/// Refits Linux disk images for a cloud while they are cold: no root, no VM, no mount.
#[derive(Debug, Parser)]
#[command(
    name = "coldfit",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 a required rule does not hold, 2 usage, 3 unsupported and named, \
                  4 damaged image, 5 environment (not found, in use, no space on the host), \
                  6 no room in the guest, 70 a bug. After 2 to 6 nothing has been written.\n\n\
                  SOURCE_DATE_EPOCH, when set, is the time stamped on changed files.\n\n\
                  Examples:\n  \
                  coldfit inspect disk.qcow2\n  \
                  coldfit check disk.qcow2 --profile alibaba\n  \
                  coldfit fix disk.qcow2 --profile alibaba --diff\n  \
                  coldfit cat disk.qcow2:/etc/fstab"
)]
pub struct Cli {
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// How results are printed.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// How to print the result.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, help_heading = "Output")]
    pub format: Format,
    /// Say nothing but results and errors.
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
}

/// Form of the result on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document (docs/report.md).
    Json,
}

/// How an image is opened.
#[derive(Debug, Clone, Args)]
pub struct ImageArgs {
    /// Format of the image; found out from its first bytes when not given.
    #[arg(short = 'f', long = "input-format", value_enum, value_name = "FORMAT", help_heading = "Image")]
    pub input_format: Option<ImageFormat>,
    /// Follow backing files, but only to files below DIR.
    #[arg(long, value_name = "DIR", help_heading = "Image")]
    pub allow_backing: Option<PathBuf>,
    /// Logical sector size of the disk: 512 or 4096; found out from the partition table when not given.
    #[arg(long, value_name = "BYTES", help_heading = "Image", value_parser = parse_sector_size)]
    pub sector_size: Option<u32>,
    /// Which filesystem is the root, by partition number, UUID= or LABEL=; needed only when several could be.
    #[arg(long, value_name = "VOLUME", help_heading = "Image")]
    pub root: Option<String>,
    /// Memory for changed blocks before they go to a temporary file, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64, help_heading = "Image",
          value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub memory: u64,
    /// Directory for the temporary file; the system's own when not given.
    #[arg(long, value_name = "DIR", help_heading = "Image")]
    pub temp_dir: Option<PathBuf>,
}

pub fn parse_sector_size(text: &str) -> Result<u32, String> {
    match text {
        "512" => Ok(512),
        "4096" => Ok(4096),
        _ => Err("a sector has 512 or 4096 bytes".into()),
    }
}

/// Image formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImageFormat {
    /// The bytes of the disk, one after the other.
    Raw,
    /// QEMU copy-on-write, versions 2 and 3.
    Qcow2,
    /// Virtual PC and Hyper-V, fixed and dynamic.
    #[value(alias = "vpc")]
    Vhd,
}

/// Which rules, with which values.
#[derive(Debug, Clone, Args)]
pub struct RuleArgs {
    /// Name of a profile (`coldfit profiles list`) or a profile file.
    #[arg(short = 'P', long, value_name = "NAME|FILE", help_heading = "Rules")]
    pub profile: String,
    /// Only these rules.
    #[arg(long, value_name = "RULE", value_delimiter = ',', help_heading = "Rules")]
    pub only: Vec<String>,
    /// All rules but these.
    #[arg(long, value_name = "RULE", value_delimiter = ',', conflicts_with = "only", help_heading = "Rules")]
    pub skip: Vec<String>,
    /// Decide a contradiction or choice of the profile (`coldfit profiles show NAME` lists them); may be given again.
    #[arg(short = 's', long, value_name = "SWITCH=VALUE", value_parser = parse_setting, help_heading = "Rules")]
    pub set: Vec<(String, String)>,
    /// Say for every rule what was seen, where the demand stands and who else looks at it.
    #[arg(long, help_heading = "Rules")]
    pub explain: bool,
}

impl RuleArgs {
    /// The rules that are meant.
    pub fn selection(&self) -> fixes::Selection {
        fixes::Selection { only: self.only.clone(), skip: self.skip.clone() }
    }
}

pub(super) fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a setting is SWITCH=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Where changed bytes go.
#[derive(Debug, Clone, Args)]
pub struct TargetArgs {
    /// Write a changed copy to FILE and leave the image alone.
    #[arg(short, long, value_name = "FILE", conflicts_with = "undo_file", help_heading = "Target")]
    pub output: Option<PathBuf>,
    /// Replace FILE when it exists.
    #[arg(long, requires = "output", help_heading = "Target")]
    pub force: bool,
    /// Keep the bytes from before in FILE, for `coldfit undo IMAGE --undo-file FILE`.
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub undo_file: Option<PathBuf>,
}

/// How the copy of `-o` is made.
#[derive(Debug, Clone, Default, Args)]
pub struct CopyArgs {
    /// Copy what the guest's filesystems and swap partitions hold as free, too; without it FILE is as small as it can be.
    #[arg(long, requires = "output", help_heading = "Target")]
    pub keep_free: bool,
    /// Leave internal snapshots of a qcow2 image out; without it the image file is copied as it is, with all of them.
    #[arg(long, requires = "output", help_heading = "Target")]
    pub drop_snapshots: bool,
}

/// What coldfit does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what is inside images, and on which buses they boot and why (not).
    #[command(
        after_help = "Examples:\n  coldfit inspect disk.qcow2\n  coldfit inspect --format json *.qcow2 | jq '.[].boot'"
    )]
    Inspect {
        /// Disk images.
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<PathBuf>,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Check images against a profile; changes nothing.
    #[command(after_help = "Exit code 1: a required rule does not hold.\n\nExamples:\n  \
                      coldfit check disk.qcow2 --profile alibaba\n  \
                      coldfit check disk.qcow2 --profile alibaba --set ssh-login=password-root --explain\n  \
                      coldfit check --format json disk.qcow2 --profile alibaba | jq .import")]
    Check {
        /// Disk images.
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<PathBuf>,
        #[command(flatten)]
        rules: RuleArgs,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Make an image meet a profile: plan, show, apply, verify, commit.
    #[command(
        after_help = "Exit code 1: all that could be done was done and committed, and a required rule still does not \
                      hold; the report says what to do. The image is the old one or the new one, never something between: a kill at any moment is \
                      rolled back at the next use.\n\nExamples:\n  \
                      coldfit fix disk.qcow2 --profile kvm --dry-run --diff\n  \
                      coldfit fix disk.qcow2 --profile kvm --undo-file disk.undo\n  \
                      coldfit fix disk.raw --profile kvm -o fixed.raw\n  \
                      coldfit fix disk.qcow2 --profile alibaba --set swap-partition=remove"
    )]
    Fix {
        /// Disk image.
        #[arg(value_name = "IMAGE")]
        path: PathBuf,
        /// Do everything but the commit.
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Show how text files change.
        #[arg(long)]
        diff: bool,
        /// Do the rest where a rule cannot be met because a file cannot be read or edited; without it nothing is done.
        #[arg(long)]
        keep_going: bool,
        #[command(flatten)]
        rules: RuleArgs,
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        copy: CopyArgs,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Copy an image into another file, format or compression.
    #[command(
        after_help = "OUT appears when it is complete and durable; a failed or stopped conversion leaves no OUT. The same IN and \
                      options give the same bytes, whatever the threads and the memory.\n\nExamples:\n  \
                      coldfit convert disk.raw disk.qcow2\n  \
                      coldfit convert -c --compress zstd:4 disk.qcow2 small.qcow2\n  \
                      coldfit convert -O raw disk.qcow2 - | ssh host 'cat > disk.raw'\n  \
                      coldfit convert -n disk.qcow2 /dev/vg0/guest"
    )]
    Convert(ConvertArgs),
    /// Measure how fast this host converts an image: every flow and codec, from one thread to all.
    #[command(
        after_help = "--format json prints one line a run, with nanoseconds a byte for each stage.\n\nExamples:\n  \
                      coldfit bench disk.qcow2\n  \
                      coldfit bench disk.qcow2 --flow raw-zlib,zlib-raw --plot bench.svg\n  \
                      coldfit bench disk.qcow2 --flow raw-zlib --runs 5 \
                      --against 'qemu-img convert -c -m 16 -W -O qcow2 {in} {out}'"
    )]
    Bench(BenchArgs),
    /// Check, fix or convert many images: one pool of threads, one report, resumable, in shards.
    #[command(
        after_help = "A line of a manifest: {\"image\": \"web1.qcow2\", \"do\": \"fix\", \"profile\": \"alibaba\", \
                      \"output\": \"out/web1.qcow2\", \"set\": {\"ssh-login\": \"password-root\"}}. \
                      Everything but image may be left to the options here; docs/batch.md has all of it.\n\n\
                      Exit code: that of the worst image, in the order 0, 1, 6, 3, 4, 5, 2, 70.\n\nExamples:\n  \
                      coldfit batch --do check -P alibaba -k images/\n  \
                      coldfit batch --do fix -P alibaba --output-dir fixed -k 'images/*.qcow2'\n  \
                      coldfit batch jobs.jsonl -k --report run1.jsonl\n  \
                      coldfit batch jobs.jsonl -k --report run1.jsonl --resume\n  \
                      coldfit batch jobs.jsonl -k --shard 3/16 --report shard-3.jsonl\n  \
                      coldfit report render run1.jsonl -o run1.html"
    )]
    Batch(Box<BatchArgs>),
    /// Work with the reports of `batch`.
    #[command(subcommand)]
    Report(ReportCommand),
    /// Restore the bytes from before a change, from its undo file.
    #[command(
        after_help = "Refuses when anything changed the image since.\n\nExample:\n  coldfit undo disk.qcow2 --undo-file disk.undo"
    )]
    Undo {
        /// Disk image.
        #[arg(value_name = "IMAGE")]
        path: PathBuf,
        /// The undo file that the change left; IMAGE.coldfit-undo when not given. An unfinished change is rolled
        /// back without one.
        #[arg(long, value_name = "FILE")]
        undo_file: Option<PathBuf>,
    },
    /// Show what differs between two images: disk, files, and with --content the text of files.
    #[command(after_help = "Exit code 0: nothing differs, 1: something does.\n\nExamples:\n  \
                      coldfit diff before.qcow2 after.qcow2\n  \
                      coldfit diff --content before.qcow2 after.qcow2 /etc /boot/grub")]
    Diff(DiffArgs),
    /// List a directory of the guest.
    #[command(after_help = "Example:\n  coldfit ls -l disk.qcow2:/boot")]
    Ls {
        /// `IMAGE:/path`.
        #[arg(value_name = "IMAGE:/PATH")]
        address: Address,
        /// With mode, owner, size and time.
        #[arg(short, long)]
        long: bool,
        /// All directories below, too.
        #[arg(short = 'R', long)]
        recursive: bool,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Print files of the guest.
    #[command(after_help = "Example:\n  coldfit cat disk.qcow2:/etc/fstab")]
    Cat {
        /// `IMAGE:/path`.
        #[arg(value_name = "IMAGE:/PATH")]
        address: Address,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Show everything about one file of the guest.
    #[command(after_help = "Example:\n  coldfit stat disk.qcow2:/etc/shadow")]
    Stat {
        /// `IMAGE:/path`; a last symlink is not followed.
        #[arg(value_name = "IMAGE:/PATH")]
        address: Address,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Copy a file from or into a guest.
    #[command(
        after_help = "A file that is replaced keeps its owner, mode and extended attributes.\n\nExamples:\n  \
                      coldfit cp disk.qcow2:/var/log/syslog .\n  coldfit cp motd disk.qcow2:/etc/motd"
    )]
    Cp {
        /// Host path, `-`, or `IMAGE:/path`.
        source: Place,
        /// Host path, `-`, or `IMAGE:/path`.
        destination: Place,
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Write standard input to a file of the guest.
    #[command(after_help = "Example:\n  echo web1 | coldfit write disk.qcow2:/etc/hostname")]
    Write {
        /// `IMAGE:/path`.
        #[arg(value_name = "IMAGE:/PATH")]
        address: Address,
        /// Add to the end.
        #[arg(short, long)]
        append: bool,
        /// Mode of a file that is made.
        #[arg(long, default_value = "0644")]
        mode: ModeChange,
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Remove files of the guest.
    #[command(after_help = "Example:\n  coldfit rm disk.qcow2:/etc/udev/rules.d/70-persistent-net.rules")]
    Rm {
        /// `IMAGE:/path`.
        #[arg(value_name = "IMAGE:/PATH")]
        address: Address,
        /// A directory with everything in it.
        #[arg(short, long)]
        recursive: bool,
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Make a directory in the guest.
    #[command(after_help = "Example:\n  coldfit mkdir -p disk.qcow2:/etc/systemd/system/ssh.service.d")]
    Mkdir {
        /// `IMAGE:/path`.
        #[arg(value_name = "IMAGE:/PATH")]
        address: Address,
        /// Parents, too; no error when it exists.
        #[arg(short, long)]
        parents: bool,
        /// Mode of what is made.
        #[arg(long, default_value = "0755")]
        mode: ModeChange,
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Change the mode of a file of the guest.
    #[command(after_help = "Example:\n  coldfit chmod go-rwx disk.qcow2:/etc/ssh/ssh_host_rsa_key")]
    Chmod {
        /// Octal, or clauses as chmod(1) takes them.
        mode: ModeChange,
        /// `IMAGE:/path`.
        #[arg(value_name = "IMAGE:/PATH")]
        address: Address,
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Change the owner of a file of the guest.
    #[command(
        after_help = "Names are looked up in the guest's /etc/passwd and /etc/group.\n\nExample:\n  coldfit chown root:adm disk.qcow2:/var/log/syslog"
    )]
    Chown {
        /// `USER`, `USER:GROUP` or `:GROUP`.
        owner: Owner,
        /// `IMAGE:/path`; a last symlink is not followed.
        #[arg(value_name = "IMAGE:/PATH")]
        address: Address,
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Make a link in the guest.
    #[command(
        after_help = "Examples:\n  coldfit ln -s /dev/null disk.qcow2:/etc/systemd/system/firewalld.service\n  coldfit ln /etc/hosts disk.qcow2:/etc/hosts.bak"
    )]
    Ln {
        /// Symbolic instead of hard.
        #[arg(short, long)]
        symbolic: bool,
        /// What the link leads to: text of a symlink, or an absolute guest path.
        target_path: String,
        /// `IMAGE:/path` of the link.
        #[arg(value_name = "IMAGE:/LINK")]
        address: Address,
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Look into each kernel's initramfs, or put drivers into it.
    #[command(subcommand)]
    Initramfs(InitramfsCommand),
    /// Check the structure of every layer; changes nothing.
    #[command(after_help = "Example:\n  coldfit fsck disk.qcow2")]
    Fsck {
        /// Disk image.
        #[arg(value_name = "IMAGE")]
        path: PathBuf,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Print every structure of one layer as text, always the same for the same image.
    #[command(
        after_help = "Layers: image (qcow2 tables), partitions, or a filesystem by partition number, UUID= or LABEL=.\n\nExamples:\n  coldfit dump disk.qcow2 partitions\n  coldfit dump disk.qcow2 1"
    )]
    Dump {
        /// Disk image.
        #[arg(value_name = "IMAGE")]
        path: PathBuf,
        /// `image`, `partitions`, a partition number, `UUID=…` or `LABEL=…`.
        layer: String,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Show the profiles: what is demanded, with source and date.
    #[command(subcommand)]
    Profiles(ProfilesCommand),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  coldfit completions bash > /etc/bash_completion.d/coldfit")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages to a directory.
    #[command(after_help = "Example:\n  coldfit man /usr/local/share/man/man1")]
    Man {
        /// An existing directory.
        directory: PathBuf,
    },
}

/// Commands on initramfs files.
#[derive(Debug, Subcommand)]
pub enum InitramfsCommand {
    /// List kernels with their initramfs, its segments and the state of the disk drivers.
    #[command(after_help = "Example:\n  coldfit initramfs list disk.qcow2")]
    List {
        /// Disk image.
        #[arg(value_name = "IMAGE")]
        path: PathBuf,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// List every file of one initramfs, segment by segment.
    #[command(after_help = "Example:\n  coldfit initramfs show disk.qcow2:/boot/initrd.img-6.1.0-28-amd64")]
    Show {
        /// `IMAGE:/path` of the initramfs.
        #[arg(value_name = "IMAGE:/PATH")]
        address: Address,
        #[command(flatten)]
        image: ImageArgs,
    },
    /// Put modules and all they need into every kernel's initramfs.
    #[command(after_help = "Example:\n  coldfit initramfs inject disk.qcow2 virtio_blk virtio_pci nvme")]
    Inject {
        /// Disk image.
        #[arg(value_name = "IMAGE")]
        path: PathBuf,
        /// Kernel module names.
        #[arg(required = true, value_name = "MODULE")]
        modules: Vec<String>,
        /// Do everything but the commit.
        #[arg(short = 'n', long)]
        dry_run: bool,
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        image: ImageArgs,
    },
}

/// Commands on profiles.
#[derive(Debug, Subcommand)]
pub enum ProfilesCommand {
    /// List the built-in profiles.
    List,
    /// Show the rules of one profile.
    #[command(after_help = "Example:\n  coldfit profiles show kvm --toml > mine.toml")]
    Show {
        /// Name or file.
        #[arg(value_name = "NAME|FILE")]
        profile: String,
        /// Decide a switch, to see what then counts.
        #[arg(short = 's', long, value_name = "SWITCH=VALUE", value_parser = parse_setting)]
        set: Vec<(String, String)>,
        /// The profile file itself, to start your own from.
        #[arg(long)]
        toml: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
