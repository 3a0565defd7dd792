//! `coldfit-lab`: builds the test images and boots images in QEMU. For development only.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use coldfit_testkit::cache::Cache;
use coldfit_testkit::cloud_host::CloudHost;
use coldfit_testkit::error::{LabError, Result};
use coldfit_testkit::live::{Live, boot_live};
use coldfit_testkit::qemu::{Boot, Bus, Firmware};
use coldfit_testkit::recipe::Image;
use coldfit_testkit::tool;

/// Builds the test images and boots images in QEMU.
#[derive(Parser)]
#[command(name = "coldfit-lab")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the images by name.
    List,
    /// Builds an image, or `all`, unless the cache has it; prints its path.
    Build {
        /// Name of an image, or `all`.
        image: String,
        /// Also prints what was proved of it.
        #[arg(long)]
        proofs: bool,
    },
    /// Boots an image without writing to it; exit code 0 when the system comes up, else 1.
    Boot {
        /// The image file.
        image: PathBuf,
        /// How the disk is attached: ahci, ide, virtio-blk, virtio-scsi, nvme.
        #[arg(long, value_parser = parse_bus)]
        bus: Bus,
        /// Seconds until the boot counts as failed.
        #[arg(long, default_value_t = 300)]
        timeout: u64,
        /// Also prints the whole serial log.
        #[arg(long)]
        log: bool,
    },
    /// Boots an image on a host that looks like a cloud and prints what the guest says of itself.
    Live {
        /// The image file, made from one of the `cloud` images.
        image: PathBuf,
        /// How the disk is attached.
        #[arg(long, value_parser = parse_bus)]
        bus: Bus,
        /// What the cloud tells its guests (a file like those in testdata/cloud-host).
        #[arg(long)]
        host: PathBuf,
        /// Boots with UEFI firmware.
        #[arg(long)]
        uefi: bool,
        /// Also prints the whole serial log.
        #[arg(long)]
        log: bool,
    },
    /// Checks the licences of all dependencies against deny.toml; run it at the top of the tree.
    Licences,
}

fn parse_bus(name: &str) -> std::result::Result<Bus, String> {
    Bus::from_name(name).ok_or_else(|| format!("one of {}", Bus::ALL.map(Bus::name).join(", ")))
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("coldfit-lab: {error}");
            ExitCode::from(5)
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::List => {
            for image in Image::ALL {
                println!("{}", image.name());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Build { image, proofs } => build(&image, proofs),
        Command::Boot { image, bus, timeout, log } => boot(&image, bus, timeout, log),
        Command::Live { image, bus, host, uefi, log } => live(&image, bus, &host, uefi, log),
        Command::Licences => licences(),
    }
}

fn build(name: &str, proofs: bool) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let images = match (name, Image::from_name(name)) {
        ("all", _) => Image::ALL.to_vec(),
        (_, Some(image)) => vec![image],
        (_, None) => {
            return Err(LabError::Machine(format!("no image is called {name}; see `coldfit-lab list`")));
        }
    };
    for image in images {
        let built = image.build(&cache, &|what| eprintln!("{what}"))?;
        println!("{}", built.path.display());
        if proofs {
            for property in &built.record.proved {
                println!("    {property}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn boot(image: &Path, bus: Bus, timeout: u64, log: bool) -> Result<ExitCode> {
    let outcome = Boot::new(image, bus).timeout(Duration::from_secs(timeout)).run(&Cache::open()?)?;
    if log {
        println!("{}", outcome.log());
    }
    match &outcome.reached {
        Some(line) => {
            println!("{}: boots ({:.0} s): {line}", bus.name(), outcome.seconds);
            Ok(ExitCode::SUCCESS)
        }
        None => {
            println!("{}: does not boot ({:.0} s): {:?}", bus.name(), outcome.seconds, outcome.end);
            println!("{}", outcome.screen);
            Ok(ExitCode::from(1))
        }
    }
}

fn live(image: &Path, bus: Bus, host: &Path, uefi: bool, log: bool) -> Result<ExitCode> {
    let firmware = if uefi { Firmware::Uefi } else { Firmware::Bios };
    let outcome = boot_live(&Cache::open()?, image, bus, firmware, &CloudHost::from_file(host)?)?;
    if log || outcome.reached.is_none() {
        println!("{}", outcome.log());
    }
    if outcome.reached.is_none() {
        println!("{}: no live values ({:.0} s): {:?}", bus.name(), outcome.seconds, outcome.end);
        return Ok(ExitCode::from(1));
    }
    print!("{}", Live::from_serial(&outcome.serial)?.text());
    println!("{:.0} s", outcome.seconds);
    Ok(ExitCode::SUCCESS)
}

fn licences() -> Result<ExitCode> {
    let deny = std::fs::read_to_string("deny.toml")
        .map_err(|source| LabError::Io { path: "deny.toml".into(), source })?;
    let metadata = tool::run("cargo", ["metadata", "--format-version", "1", "--locked"])?;
    let violations = coldfit_testkit::licences::violations(&deny, &metadata)?;
    for violation in &violations {
        println!("not allowed by deny.toml: {violation}");
    }
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
