//! Does it boot on this bus? Answered from the model alone, and never by a guess.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use vfs::DeviceTable;

use crate::{BootEntry, Guest};

mod devices;
mod drivers;
mod firmware;
mod mounts;

pub use firmware::{BootMode, BootModes, boot_modes, efi_fallback};

/// How the root disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bus {
    /// virtio-blk over PCI: `vda`.
    VirtioBlk,
    /// virtio-scsi over PCI: `sda`.
    VirtioScsi,
    /// NVMe: `nvme0n1`.
    Nvme,
    /// AHCI SATA: `sda`.
    Ahci,
    /// PIIX IDE: `sda`.
    Ide,
}

impl Bus {
    /// All of them, in the order of reports.
    pub const ALL: [Bus; 5] = [Bus::VirtioBlk, Bus::VirtioScsi, Bus::Nvme, Bus::Ahci, Bus::Ide];

    /// Name as reports print it.
    pub fn name(self) -> &'static str {
        match self {
            Bus::VirtioBlk => "virtio-blk",
            Bus::VirtioScsi => "virtio-scsi",
            Bus::Nvme => "nvme",
            Bus::Ahci => "ahci",
            Bus::Ide => "ide",
        }
    }

    /// The bus with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bus| bus.name() == name)
    }

    /// Kernel name of the first disk.
    pub fn first_disk(self) -> &'static str {
        match self {
            Bus::VirtioBlk => "vda",
            Bus::Nvme => "nvme0n1",
            Bus::VirtioScsi | Bus::Ahci | Bus::Ide => "sda",
        }
    }

    /// Drivers from the bus to the disk.
    pub fn drivers(self) -> &'static [&'static str] {
        match self {
            Bus::VirtioBlk => &["virtio_pci", "virtio_blk"],
            Bus::VirtioScsi => &["virtio_pci", "virtio_scsi", "sd_mod"],
            Bus::Nvme => &["nvme"],
            Bus::Ahci => &["ahci", "sd_mod"],
            Bus::Ide => &["ata_piix", "sd_mod"],
        }
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One ground of a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Stable dotted code.
    pub code: &'static str,
    /// One sentence, the file and line in it.
    pub message: String,
    /// The file that shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in that file, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl Reason {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), file: None, line: None }
    }

    fn at(self, file: impl Into<String>, line: impl Into<Option<usize>>) -> Self {
        Self { file: Some(file.into()), line: line.into(), ..self }
    }
}

/// Whether an entry boots on a bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Every step from the firmware to the last mount is there.
    Boots,
    /// Some step is not there.
    DoesNotBoot {
        /// All that were found, in the order of the boot.
        reasons: Vec<Reason>,
    },
    /// Nothing speaks against it, but not every step can be judged.
    Unknown {
        /// What could not be judged.
        reasons: Vec<Reason>,
    },
}

impl Verdict {
    /// True for [`Verdict::Boots`].
    pub fn boots(&self) -> bool {
        *self == Verdict::Boots
    }

    /// The grounds; none for [`Verdict::Boots`].
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Verdict::Boots => &[],
            Verdict::DoesNotBoot { reasons } | Verdict::Unknown { reasons } => reasons,
        }
    }
}

/// The verdicts on one boot entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryVerdict {
    /// Index in [`Guest::boot_entries`].
    pub entry: usize,
    /// Title of the entry.
    pub title: String,
    /// One for each bus.
    pub buses: BTreeMap<Bus, Verdict>,
    /// What a boot that succeeds has to wait for, and other things worth knowing, by bus.
    pub notes: BTreeMap<Bus, Vec<Reason>>,
}

/// What the steps of one boot find.
#[derive(Default)]
struct Grounds {
    against: Vec<Reason>,
    unknown: Vec<Reason>,
    notes: Vec<Reason>,
}

impl Grounds {
    fn against(&mut self, reason: Reason) {
        self.against.push(reason);
    }

    fn unknown(&mut self, reason: Reason) {
        self.unknown.push(reason);
    }

    fn note(&mut self, reason: Reason) {
        self.notes.push(reason);
    }

    fn verdict(self) -> (Verdict, Vec<Reason>) {
        let verdict = match (self.against.is_empty(), self.unknown.is_empty()) {
            (false, _) => Verdict::DoesNotBoot { reasons: self.against },
            (true, false) => Verdict::Unknown { reasons: self.unknown },
            (true, true) => Verdict::Boots,
        };
        (verdict, self.notes)
    }
}

/// The verdict on the default boot entry, for every bus.
pub fn verdict(guest: &Guest, devices: &DeviceTable) -> BTreeMap<Bus, Verdict> {
    match guest.boot_entries.first() {
        Some(entry) => {
            Bus::ALL.iter().map(|bus| (*bus, verdict_of_entry(guest, devices, entry, *bus))).collect()
        }
        None => Bus::ALL.iter().map(|bus| (*bus, without_entry(guest))).collect(),
    }
}

/// The verdicts on every boot entry.
pub fn verdicts(guest: &Guest, devices: &DeviceTable) -> Vec<EntryVerdict> {
    let of_entry = |(index, entry): (usize, &BootEntry)| {
        let mut found = EntryVerdict {
            entry: index,
            title: entry.title.clone(),
            buses: BTreeMap::new(),
            notes: BTreeMap::new(),
        };
        for bus in Bus::ALL {
            let (verdict, notes) = walk(guest, devices, entry, bus).verdict();
            found.buses.insert(bus, verdict);
            if !notes.is_empty() {
                found.notes.insert(bus, notes);
            }
        }
        found
    };
    guest.boot_entries.iter().enumerate().map(of_entry).collect()
}

/// The verdict on one boot entry and one bus.
pub fn verdict_of_entry(guest: &Guest, devices: &DeviceTable, entry: &BootEntry, bus: Bus) -> Verdict {
    walk(guest, devices, entry, bus).verdict().0
}

/// Every step of the boot, in its order.
fn walk(guest: &Guest, devices: &DeviceTable, entry: &BootEntry, bus: Bus) -> Grounds {
    let mut grounds = Grounds::default();
    firmware::check(guest, devices, &mut grounds);
    drivers::check(guest, devices, entry, bus, &mut grounds);
    devices::check_root(guest, devices, entry, bus, &mut grounds);
    mounts::check(guest, devices, bus, &mut grounds);
    grounds
}

fn without_entry(guest: &Guest) -> Verdict {
    let loader = &guest.bootloader;
    let unknown = |reason| Verdict::Unknown { reasons: vec![reason] };
    if let Some(problem) = &loader.unsupported {
        return unknown(Reason::new("boot.config.unsupported", problem.message.clone()));
    }
    match &loader.config {
        Some(config) => Verdict::DoesNotBoot {
            reasons: vec![
                Reason::new("boot.entry.none", format!("{config} has no entry that starts Linux"))
                    .at(config.clone(), None),
            ],
        },
        None => unknown(Reason::new(
            "boot.loader.unknown",
            "no boot loader configuration that is understood: no /boot/grub/grub.cfg, no /boot/grub2/grub.cfg",
        )),
    }
}
