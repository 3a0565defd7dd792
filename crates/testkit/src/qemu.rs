//! Boots an image in QEMU and says what came of it.
//!
//! Success is a line on the first serial port, which the lab's images print once root is mounted
//! for writing (`COLDFIT-BOOTED …`). Failure is a known text on the serial port *or* on the VGA
//! text screen ([`crate::screen`]), so that an image without a serial console shows why it failed.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cache::{Cache, RecipeDigest, file_digest};
use crate::cloud_host::CloudHost;
use crate::error::{LabError, Result, at};
use crate::qmp::Qmp;
use crate::{screen, tool};

/// How often a boot is repeated that QEMU itself did not survive.
const REPEATS: usize = 2;

/// Begins the line that the lab's images print when they are up.
pub const BOOTED: &str = "COLDFIT-BOOTED ";

/// Texts after which a boot goes no further by itself.
const DEAD_ENDS: &[&str] = &[
    "does not exist.  Dropping to a shell!",
    "(initramfs)",
    "Kernel panic",
    "You are in emergency mode",
    "Cannot open access to console",
    "grub rescue>",
    "Minimal BASH-like line editing",
    "No bootable device",
    "error: no such device",
    "error: file `",
    "UEFI Interactive Shell",
];

/// The disk that the guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bus {
    /// Paravirtual block device on PCI.
    VirtioBlk,
    /// Paravirtual SCSI adapter on PCI with one disk.
    VirtioScsi,
    /// NVMe controller with one namespace.
    Nvme,
    /// SATA disk on an ICH9 AHCI controller.
    Ahci,
    /// Parallel ATA disk on the PIIX3 controller.
    Ide,
}

impl Bus {
    /// Every bus that the lab can offer.
    pub const ALL: [Bus; 5] = [Bus::Ahci, Bus::Ide, Bus::VirtioBlk, Bus::VirtioScsi, Bus::Nvme];

    /// The name in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Bus::VirtioBlk => "virtio-blk",
            Bus::VirtioScsi => "virtio-scsi",
            Bus::Nvme => "nvme",
            Bus::Ahci => "ahci",
            Bus::Ide => "ide",
        }
    }

    /// The bus of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bus| bus.name() == name)
    }

    /// QEMU's arguments for the drives `disk0`, `disk1`, … on this bus, the first one bootable.
    fn devices(self, drives: usize) -> Vec<String> {
        let mut args: Vec<String> = match self {
            Bus::Ahci => vec!["-device".into(), "ich9-ahci,id=bus".into()],
            Bus::VirtioScsi => vec!["-device".into(), "virtio-scsi-pci,id=bus".into()],
            Bus::VirtioBlk | Bus::Nvme | Bus::Ide => Vec::new(),
        };
        for drive in 0..drives {
            let device = match self {
                Bus::VirtioBlk => format!("virtio-blk-pci,drive=disk{drive}"),
                Bus::VirtioScsi => format!("scsi-hd,bus=bus.0,drive=disk{drive}"),
                Bus::Nvme => format!("nvme,serial=coldfit{drive},drive=disk{drive}"),
                Bus::Ahci => format!("ide-hd,bus=bus.{drive},drive=disk{drive}"),
                Bus::Ide => format!("ide-hd,bus=ide.{drive},drive=disk{drive}"),
            };
            args.push("-device".into());
            // A kernel that QEMU starts itself takes index 0.
            args.push(format!("{device},bootindex={}", drive + 1));
        }
        args
    }
}

/// The firmware of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Firmware {
    /// SeaBIOS, which QEMU brings along.
    #[default]
    Bios,
    /// OVMF with empty variables: only the fallback path boots.
    Uefi,
}

/// Debian's package `ovmf`: the code, and the variables that each machine gets a copy of.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

impl Firmware {
    fn arguments(self, folder: &Path) -> Result<Vec<String>> {
        if self == Self::Bios {
            return Ok(Vec::new());
        }
        if !Path::new(OVMF_CODE).exists() {
            return Err(LabError::MissingTool { tool: format!("{OVMF_CODE} (Debian package ovmf)") });
        }
        let variables = folder.join("variables.fd");
        fs::copy(OVMF_VARIABLES, &variables).map_err(at(&variables))?;
        let flash = |options: String| ["-drive".to_owned(), format!("if=pflash,format=raw,{options}")];
        Ok([
            flash(format!("readonly=on,file={OVMF_CODE}")),
            flash(format!("file={}", escape_commas(&variables))),
        ]
        .concat())
    }
}

/// How a boot ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The line that was waited for came.
    Reached,
    /// A text that ends every boot came first.
    DeadEnd(String),
    /// QEMU ended by itself.
    PoweredOff,
    /// Nothing of that within the time.
    TimedOut,
}

/// What was seen of one boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BootOutcome {
    /// The line that was waited for, when it came.
    pub reached: Option<String>,
    /// Why the boot was not watched any longer.
    pub end: End,
    /// All that came out of the first serial port.
    pub serial: String,
    /// The text screen at the end.
    pub screen: String,
    /// Wall-clock time.
    pub seconds: f64,
}

impl BootOutcome {
    /// Serial output and screen, for messages and searches.
    pub fn log(&self) -> String {
        format!("{}\n--- screen ---\n{}", self.serial, self.screen)
    }
}

/// A QEMU run to be started.
#[derive(Debug)]
pub struct Boot<'a> {
    image: &'a Path,
    bus: Bus,
    timeout: Duration,
    marker: &'a str,
    writable: bool,
    kernel: Option<DirectKernel>,
    cd: Option<PathBuf>,
    second_disk: Option<PathBuf>,
    kill_at_marker: bool,
    firmware: Firmware,
    host: Option<&'a CloudHost>,
}

/// A kernel that QEMU starts itself, without the image's bootloader.
#[derive(Debug, Clone)]
pub struct DirectKernel {
    /// The kernel image.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initramfs: PathBuf,
    /// Its command line.
    pub arguments: String,
}

impl<'a> Boot<'a> {
    /// A boot from the image's own bootloader; the image is not written.
    pub fn new(image: &'a Path, bus: Bus) -> Self {
        Self {
            image,
            bus,
            timeout: Duration::from_secs(300),
            marker: BOOTED,
            writable: false,
            kernel: None,
            cd: None,
            second_disk: None,
            kill_at_marker: true,
            firmware: Firmware::Bios,
            host: None,
        }
    }

    /// Ends the boot after this time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Waits for another text than [`BOOTED`] at the start of a serial line.
    #[must_use]
    pub fn marker(mut self, marker: &'a str) -> Self {
        self.marker = marker;
        self
    }

    /// Lets the guest write into the image.
    #[must_use]
    pub fn writable(mut self) -> Self {
        self.writable = true;
        self
    }

    /// Starts this kernel instead of the image's bootloader.
    #[must_use]
    pub fn kernel(mut self, kernel: DirectKernel) -> Self {
        self.kernel = Some(kernel);
        self
    }

    /// Adds a CD whose raw content is this file.
    #[must_use]
    pub fn cd(mut self, content: PathBuf) -> Self {
        self.cd = Some(content);
        self
    }

    /// Adds a second disk on the same bus, read-only, whose raw content is this file.
    #[must_use]
    pub fn second_disk(mut self, content: PathBuf) -> Self {
        self.second_disk = Some(content);
        self
    }

    /// Boots with this firmware.
    #[must_use]
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = firmware;
        self
    }

    /// Gives the guest a network card and what a cloud tells its guests.
    #[must_use]
    pub fn host(mut self, host: &'a CloudHost) -> Self {
        self.host = Some(host);
        self
    }

    /// After the marker, waits until the guest has powered itself off.
    #[must_use]
    pub fn until_power_off(mut self) -> Self {
        self.kill_at_marker = false;
        self
    }

    /// Runs QEMU; only one at a time runs on a machine, later ones wait.
    ///
    /// When QEMU itself is killed by a signal, nothing was said about the guest, and the boot is repeated; not where
    /// the guest may have written into the image. Emulated processors on several threads have such a race in QEMU 10
    /// (an assertion in `iotlb_to_section`).
    pub fn run(self, cache: &Cache) -> Result<BootOutcome> {
        let _only_one = cache.lock("qemu")?;
        let repeats = if self.writable { 0 } else { REPEATS };
        for _ in 0..repeats {
            match self.attempt() {
                Err(LabError::Emulator(_)) => {}
                other => return other,
            }
        }
        self.attempt()
    }

    fn attempt(&self) -> Result<BootOutcome> {
        let folder = tempfile::tempdir().map_err(at("/tmp"))?;
        let socket = folder.path().join("qmp");
        let mut command = tool::command("qemu-system-x86_64", self.arguments(folder.path(), &socket)?);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut machine = Machine::start(&mut command)?;
        let mut qmp = Qmp::connect(&socket).map_err(|error| machine.explain(error))?;
        let window = folder.path().join("screen");
        let mut screen_text = String::new();
        let end = loop {
            std::thread::sleep(Duration::from_millis(500));
            let serial = machine.serial();
            let reached = line_with(&serial, self.marker).is_some();
            if reached && self.kill_at_marker {
                break End::Reached;
            }
            if let Some(end) = machine.ended()? {
                break if line_with(&machine.serial(), self.marker).is_some() { End::Reached } else { end };
            }
            if let Ok(text) = read_screen(&mut qmp, &window) {
                screen_text = text;
            }
            if let Some(text) = dead_end(&serial).or_else(|| dead_end(&screen_text)).filter(|_| !reached) {
                break End::DeadEnd(text.to_owned());
            }
            if start.elapsed() > self.timeout {
                break End::TimedOut;
            }
        };
        machine.stop();
        let serial = machine.serial();
        Ok(BootOutcome {
            reached: line_with(&serial, self.marker),
            end,
            serial,
            screen: screen_text,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    fn arguments(&self, folder: &Path, qmp: &Path) -> Result<Vec<String>> {
        let format = image_format(self.image)?;
        let mut args: Vec<String> = "-nodefaults -machine pc -accel tcg,thread=multi -cpu max -smp 2 -m 768 \
                                     -no-reboot -display none -vga std -serial stdio -monitor none"
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        match self.host {
            Some(host) => args.extend(host.arguments(folder)?),
            None => args.extend(["-nic".into(), "none".into()]),
        }
        args.extend(self.firmware.arguments(folder)?);
        let access = if self.writable { "cache=unsafe" } else { "cache=unsafe,snapshot=on" };
        args.extend([
            "-qmp".into(),
            format!("unix:{},server=on,wait=off", qmp.display()),
            "-drive".into(),
            format!("if=none,id=disk0,format={format},{access},file={}", escape_commas(self.image)),
        ]);
        if let Some(disk) = &self.second_disk {
            args.extend([
                "-drive".into(),
                format!("if=none,id=disk1,format=raw,snapshot=on,file={}", escape_commas(disk)),
            ]);
        }
        args.extend(self.bus.devices(if self.second_disk.is_some() { 2 } else { 1 }));
        if let Some(cd) = &self.cd {
            let drive = format!("if=none,id=cd,format=raw,readonly=on,file={}", escape_commas(cd));
            args.extend(["-drive".into(), drive, "-device".into(), "ide-cd,drive=cd,bus=ide.1".into()]);
        }
        if let Some(direct) = &self.kernel {
            args.extend([
                "-kernel".into(),
                direct.kernel.display().to_string(),
                "-initrd".into(),
                direct.initramfs.display().to_string(),
                "-append".into(),
                direct.arguments.clone(),
            ]);
        }
        Ok(args)
    }
}

/// Boots `image` from its own bootloader, or repeats what the same bytes did on this bus before.
pub fn boot_cached(cache: &Cache, image: &Path, bus: Bus) -> Result<BootOutcome> {
    let version = tool::run("qemu-system-x86_64", ["--version"])?;
    let key = RecipeDigest::default()
        .with("image", file_digest(image)?)
        .with("bus", bus.name())
        .with("arguments", format!("{:?}", Boot::new(Path::new("image"), bus).arguments_shape()))
        .with("qemu", version.lines().next().unwrap_or_default())
        .short();
    let stored = cache.path(&format!("boots/{key}.json"))?;
    if let Ok(text) = fs::read_to_string(&stored)
        && let Ok(outcome) = serde_json::from_str(&text)
    {
        return Ok(outcome);
    }
    let outcome = Boot::new(image, bus).run(cache)?;
    // A boot that ran out of time says more about the machine than about the image.
    if outcome.end != End::TimedOut {
        let text = serde_json::to_string_pretty(&outcome)
            .map_err(|error| LabError::Machine(format!("boot outcome: {error}")))?;
        fs::write(&stored, text).map_err(at(&stored))?;
    }
    Ok(outcome)
}

impl Boot<'_> {
    /// What of the arguments decides the outcome, without paths.
    fn arguments_shape(&self) -> (Vec<String>, &[&str], u64) {
        (self.bus.devices(1), DEAD_ENDS, 1)
    }
}

/// A shell script as the content of a CD or disk: newlines up to a whole number of sectors.
pub fn script_disk(script: &str, folder: &Path) -> Result<PathBuf> {
    let path = folder.join("script.img");
    let mut content = script.as_bytes().to_vec();
    content.resize(content.len().next_multiple_of(32 * 1024), b'\n');
    fs::write(&path, content).map_err(at(&path))?;
    Ok(path)
}

fn image_format(image: &Path) -> Result<&'static str> {
    let mut magic = [0; 4];
    let mut file = fs::File::open(image).map_err(at(image))?;
    file.read_exact(&mut magic).map_err(at(image))?;
    Ok(if &magic == b"QFI\xfb" { "qcow2" } else { "raw" })
}

fn escape_commas(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

fn read_screen(qmp: &mut Qmp, file: &Path) -> Result<String> {
    let window = json!({ "val": screen::TEXT_WINDOW, "size": screen::TEXT_WINDOW_LEN, "filename": file });
    qmp.execute("pmemsave", window)?;
    Ok(screen::text_of(&fs::read(file).map_err(at(file))?))
}

fn dead_end(text: &str) -> Option<&'static str> {
    DEAD_ENDS.iter().copied().find(|dead_end| text.contains(dead_end))
}

/// The finished line that starts with `marker` (a console may have put a return before it).
fn line_with(serial: &str, marker: &str) -> Option<String> {
    let start = serial.find(marker)?;
    let (line, _) = serial[start..].split_once('\n')?;
    Some(line.trim_end().to_owned())
}

/// A running QEMU; killed when it goes out of scope.
struct Machine {
    child: Child,
    serial: Arc<Mutex<Vec<u8>>>,
    errors: Arc<Mutex<Vec<u8>>>,
}

impl Machine {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => LabError::MissingTool { tool: "qemu-system-x86_64".into() },
            _ => LabError::Io { path: "qemu-system-x86_64".into(), source },
        })?;
        let serial = collect(child.stdout.take());
        let errors = collect(child.stderr.take());
        Ok(Self { child, serial, errors })
    }

    fn serial(&self) -> String {
        let bytes = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn ended(&mut self) -> Result<Option<End>> {
        match self.child.try_wait().map_err(at("qemu-system-x86_64"))? {
            None => Ok(None),
            Some(status) if status.success() => {
                // The reader may still be behind.
                std::thread::sleep(Duration::from_millis(200));
                Ok(Some(End::PoweredOff))
            }
            Some(status) => {
                let text = self.with_errors(&format!("QEMU ended with {status}"));
                Err(if status.signal().is_some() {
                    LabError::Emulator(text)
                } else {
                    LabError::Machine(text)
                })
            }
        }
    }

    fn explain(&mut self, error: LabError) -> LabError {
        LabError::Machine(self.with_errors(&error.to_string()))
    }

    fn with_errors(&mut self, text: &str) -> String {
        self.stop();
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{text}\n{}", String::from_utf8_lossy(&errors))
    }

    fn stop(&mut self) {
        // Both fail only when QEMU has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

fn collect(stream: Option<impl Read + Send + 'static>) -> Arc<Mutex<Vec<u8>>> {
    let collected = Arc::new(Mutex::new(Vec::new()));
    if let Some(mut stream) = stream {
        let shared = Arc::clone(&collected);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
            }
        });
    }
    collected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marker_counts_only_as_a_whole_line() {
        assert_eq!(line_with("x\r\nCOLDFIT-BOOTED root=/dev/sda1", BOOTED), None);
        assert_eq!(
            line_with("x\r\nCOLDFIT-BOOTED root=/dev/sda1\r\ny", BOOTED).as_deref(),
            Some("COLDFIT-BOOTED root=/dev/sda1")
        );
    }

    #[test]
    fn an_emulator_that_is_killed_is_told_apart_from_one_that_fails() {
        for (script, is_killed) in [("echo why >&2; kill -ABRT $$", true), ("echo why >&2; exit 1", false)] {
            let mut command = tool::command("sh", ["-c", script]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut machine = Machine::start(&mut command).unwrap();
            let error = loop {
                match machine.ended() {
                    Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                    Ok(end) => panic!("{end:?}"),
                    Err(error) => break error,
                }
            };
            assert_eq!(matches!(error, LabError::Emulator(_)), is_killed, "{error}");
            assert!(error.to_string().contains("why"), "{error}");
        }
    }

    #[test]
    fn names_of_buses_are_unique() {
        for bus in Bus::ALL {
            assert_eq!(Bus::from_name(bus.name()), Some(bus));
        }
    }

    #[test]
    fn a_dropped_initramfs_shell_is_a_dead_end() {
        assert!(dead_end("ALERT!  /dev/sda1 does not exist.  Dropping to a shell!\n").is_some());
        assert!(dead_end("[    1.0] Run /init as init process").is_none());
    }
}
