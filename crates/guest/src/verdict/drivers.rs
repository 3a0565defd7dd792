//! Kernel, initramfs, and the drivers from the bus to the root filesystem.

use boot::keys_equal;
use initramfs::Blacklist;
use vfs::DeviceTable;

use super::{Bus, Grounds, Reason, devices};
use crate::{BootEntry, DriverState, Guest, InitramfsDriver, InitramfsInfo, Kernel, Resolution, fstab};

/// Generators whose whole way to the root filesystem was seen under their own init.
const KNOWN_GENERATORS: [&str; 3] = ["initramfs-tools", "dracut", "mkinitcpio"];

pub(super) fn check(guest: &Guest, table: &DeviceTable, entry: &BootEntry, bus: Bus, grounds: &mut Grounds) {
    let at = format!("{}:{}", entry.file, entry.line);
    if let Some(doubt) = &entry.uncertain {
        let reason = Reason::new("boot.entry.uncertain", doubt.message.clone());
        grounds.unknown(reason.at(entry.file.clone(), entry.line));
    }
    if let Some(wanted) = &entry.missing_search {
        let message =
            format!("{at}: the entry searches the filesystem {wanted}, which this image does not have");
        let reason = Reason::new("boot.entry.search", message).at(entry.file.clone(), entry.line);
        match fstab::resolve(&format!("UUID={wanted}"), table).0 {
            Resolution::Missing => grounds.against(reason),
            _ => grounds.unknown(reason),
        }
        return;
    }
    if entry.kernel_path.is_none() {
        let message = format!("{at}: the kernel {} is not there", entry.kernel);
        grounds.against(Reason::new("boot.kernel.missing", message).at(entry.file.clone(), entry.line));
        return;
    }
    let kernel = entry
        .kernel_version
        .as_ref()
        .and_then(|version| guest.kernels.iter().find(|kernel| kernel.version == *version));
    let Some(kernel) = kernel else {
        let what = match &entry.kernel_version {
            Some(version) => format!("kernel {version} has no module directory"),
            None => format!("the version of the kernel {} is not known", entry.kernel),
        };
        grounds.unknown(Reason::new("boot.kernel.unknown", what).at(entry.file.clone(), entry.line));
        return;
    };
    let mut images = Vec::new();
    for initrd in &entry.initrds {
        let Some(path) = &initrd.path else {
            let message = format!("{at}: the initramfs {} is not there", initrd.written);
            let line = entry.initrd_line;
            grounds.against(Reason::new("boot.initramfs.missing", message).at(entry.file.clone(), line));
            return;
        };
        match guest.initramfs.iter().find(|image| image.path == *path) {
            Some(InitramfsInfo { error: Some(problem), .. }) => {
                let reason = Reason::new("boot.initramfs.unreadable", problem.message.clone());
                grounds.unknown(reason.at(path.clone(), None));
                return;
            }
            Some(image) => images.push(image),
            None => {
                let message = format!("{path} was not looked into");
                grounds.unknown(Reason::new("boot.initramfs.unreadable", message).at(path.clone(), None));
                return;
            }
        }
    }
    // Files that hold nothing but microcode have no generator of their own.
    let main: Vec<&InitramfsInfo> = images
        .iter()
        .copied()
        .filter(|image| image.segments.iter().any(|segment| segment.kind != "early"))
        .collect();
    let chain = Chain { kernel, entry, images: &main, blacklist: blacklist(entry, &main) };
    for image in &main {
        let generator = image.generator.as_deref().unwrap_or("an unknown generator");
        if !KNOWN_GENERATORS.contains(&generator) {
            let message = format!("{}: made by {generator}; how it loads drivers is not known", image.path);
            grounds.unknown(Reason::new("boot.initramfs.generator", message).at(image.path.clone(), None));
            return;
        }
    }
    for driver in bus.drivers() {
        chain.check(driver, "boot.driver.missing", grounds);
    }
    if let Some(filesystem) =
        devices::root_volume(entry, bus, table).and_then(|volume| volume.content.as_deref())
    {
        chain.check_filesystem(filesystem, grounds);
    }
}

/// What kernel arguments keep from being loaded.
fn blacklist(entry: &BootEntry, images: &[&InitramfsInfo]) -> Blacklist {
    let mut blacklist = Blacklist::default();
    blacklist.read_kernel_arguments(entry.arguments.iter().map(String::as_str));
    // initramfs-tools has one more, which its init writes into modprobe's configuration.
    if images.iter().any(|image| image.generator.as_deref() == Some("initramfs-tools")) {
        for argument in &entry.arguments {
            let Some((key, value)) = argument.split_once('=') else { continue };
            if keys_equal(key.as_bytes(), b"blacklist") {
                for name in value.split(',').filter(|name| !name.is_empty()) {
                    blacklist.add(name, "kernel argument blacklist=".into());
                }
            }
        }
    }
    blacklist
}

struct Chain<'a> {
    kernel: &'a Kernel,
    entry: &'a BootEntry,
    images: &'a [&'a InitramfsInfo],
    blacklist: Blacklist,
}

impl Chain<'_> {
    fn check_filesystem(&self, filesystem: &str, grounds: &mut Grounds) {
        match filesystem {
            // ext4 serves all three.
            "ext2" | "ext3" | "ext4" => {
                self.check("ext4", "boot.filesystem.driver", grounds);
                let knows_crc32c = |path: &Option<String>, is_builtin: bool| path.is_some() || is_builtin;
                // Kernels without such a driver have crc32c as a library.
                let crc32c = self.kernel.drivers.iter().find(|driver| driver.name == "crc32c");
                if crc32c.is_some_and(|driver| knows_crc32c(&driver.path, driver.is_builtin)) {
                    self.check("crc32c", "boot.filesystem.driver", grounds);
                }
            }
            "xfs" | "btrfs" => self.check(filesystem, "boot.filesystem.driver", grounds),
            other => grounds.unknown(Reason::new(
                "boot.root.content",
                format!("the root volume holds {other}, which is not looked into"),
            )),
        }
    }

    fn check(&self, name: &str, code: &'static str, grounds: &mut Grounds) {
        let on_disk = self.kernel.drivers.iter().find(|driver| driver.name == name);
        if on_disk.is_some_and(|driver| driver.is_builtin) {
            return;
        }
        let version = &self.kernel.version;
        let path = on_disk.and_then(|driver| driver.path.as_deref());
        let Some(last) = self.images.last() else {
            let why = match path {
                Some(path) => format!(
                    "{name}: not built into kernel {version} (module {path}), and the entry \"{}\" has no initramfs",
                    self.entry.title
                ),
                None if self.kernel.module_directory.is_none() && self.kernel.config.is_none() => {
                    grounds.unknown(Reason::new(
                        "boot.kernel.no-facts",
                        format!(
                            "{name}: kernel {version} has neither modules nor a configuration to tell from"
                        ),
                    ));
                    return;
                }
                None => format!("{name}: kernel {version} does not have it"),
            };
            grounds.against(Reason::new(code, why));
            return;
        };
        let states: Vec<(&InitramfsInfo, &InitramfsDriver)> = self
            .images
            .iter()
            .filter_map(|image| Some((*image, image.drivers.iter().find(|driver| driver.name == name)?)))
            .collect();
        let inside = states.iter().find(|(_, driver)| driver.state == DriverState::InInitramfs);
        match inside {
            Some((image, driver)) => self.check_inside(image, driver, code, grounds),
            None if states.is_empty() => {
                let message = format!("{name}: {} is not matched with kernel {version}", last.path);
                grounds.unknown(Reason::new("boot.initramfs.kernel", message).at(last.path.clone(), None));
            }
            None => match path {
                Some(path) => {
                    let message = format!("{name}: not in {} (on disk: {path})", last.path);
                    grounds.against(Reason::new(code, message).at(last.path.clone(), None));
                }
                None if self.kernel.module_directory.is_none() => {
                    let message = format!(
                        "{name}: not in {}, and kernel {version} has no modules on disk to tell whether it is built in",
                        last.path
                    );
                    grounds.unknown(Reason::new("boot.kernel.no-facts", message).at(last.path.clone(), None));
                }
                None => {
                    let message = format!(
                        "{name}: kernel {version} has neither a module nor a built-in driver of this name"
                    );
                    grounds.against(Reason::new(code, message));
                }
            },
        }
    }

    fn check_inside(
        &self,
        image: &InitramfsInfo,
        driver: &InitramfsDriver,
        code: &'static str,
        grounds: &mut Grounds,
    ) {
        let name = &driver.name;
        let mut against = |code, message: String| {
            grounds.against(Reason::new(code, message).at(image.path.clone(), None));
        };
        if !driver.missing_dependencies.is_empty() {
            let missing = driver.missing_dependencies.join(", ");
            against(code, format!("{name}: it needs {missing}, not in {}", image.path));
        }
        if let Some(place) = &driver.blacklisted {
            against("boot.driver.blacklisted", format!("{name}: forbidden by {place} in {}", image.path));
        } else if !driver.is_found {
            let message = format!("{name}: the module indexes in {} do not lead to it", image.path);
            against("boot.driver.not-indexed", message);
        }
        for module in std::iter::once(name).chain(&driver.dependencies) {
            // Only `module_blacklist=` keeps the kernel from loading what something else depends on.
            let place = self.blacklist.place(module);
            if let Some(place) = place.filter(|place| module == name || place.contains("module")) {
                let message = format!("{module}: forbidden by {place}");
                let reason = Reason::new("boot.driver.blacklisted", message);
                grounds.against(reason.at(self.entry.file.clone(), self.entry.line));
            }
        }
    }
}
