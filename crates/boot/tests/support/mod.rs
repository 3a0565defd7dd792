//! The distribution's own `grub-mkconfig`, run over a directory of the test's instead of the host.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test support")]
#![allow(dead_code, reason = "each test uses its part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

pub const ROOT_UUID: &str = "0f6b1c6e-53b5-4f6e-9d4b-1f9bb3a6a001";

/// A directory with `/etc/default/grub`, two kernels and copies of the generator's scripts.
pub struct Generator {
    dir: tempfile::TempDir,
}

impl Generator {
    pub fn new() -> Self {
        let generator = Self { dir: tempfile::tempdir().unwrap() };
        for dir in ["boot/grub", "etc/grub.d", "etc/default/grub.d", "bin"] {
            fs::create_dir_all(generator.path(dir)).unwrap();
        }
        for kernel in ["6.1.0-27-amd64", "6.1.0-28-amd64"] {
            fs::write(generator.path("boot").join(format!("vmlinuz-{kernel}")), "kernel").unwrap();
            fs::write(generator.path("boot").join(format!("initrd.img-{kernel}")), "initramfs").unwrap();
        }
        let root = generator.dir.path().to_str().unwrap().to_owned();
        generator.script(
            "bin/grub-probe",
            &format!(
                "#!/bin/sh\ncase \"$*\" in\n*device*/boot*|*=device*) echo /dev/sda1;;\n*partmap*) echo msdos;;\n\
                 *abstraction*) ;;\n*=fs_uuid*) echo {ROOT_UUID};;\n*compatibility_hint*) echo hd0,msdos1;;\n\
                 *hints_string*) echo --hint-bios=hd0,msdos1;;\n*=fs*|*'-t fs'*) echo ext2;;\n*) exit 1;;\nesac\n"
            ),
        );
        generator.script("bin/grub-mkrelpath", "#!/bin/sh\necho /boot\n");
        let probe =
            format!("grub_probe=\"{root}/bin/grub-probe\"\ngrub_mkrelpath=\"{root}/bin/grub-mkrelpath\"");
        let main = read("/usr/sbin/grub-mkconfig")
            .replace("sysconfdir=\"/etc\"", &format!("sysconfdir=\"{root}/etc\""))
            .replace("grub_probe=\"${sbindir}/grub-probe\"", &probe)
            .replace("if [ \"$EUID\" != 0 ] ; then", "if false ; then")
            .replace("export GRUB_DEVICE ", "export grub_probe grub_mkrelpath GRUB_DEVICE ");
        generator.script("bin/grub-mkconfig", &main);
        for script in ["00_header", "10_linux"] {
            let text = read(&format!("/etc/grub.d/{script}")).replace("/boot/", &format!("{root}/boot/"));
            generator.script(&format!("etc/grub.d/{script}"), &text);
        }
        generator
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn write(&self, below: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(below), text).unwrap();
    }

    fn script(&self, below: &str, text: &str) {
        self.write(below, text);
        fs::set_permissions(self.path(below), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A fresh `grub.cfg`.
    pub fn run(&self) -> Vec<u8> {
        let output = Command::new(self.path("bin/grub-mkconfig")).env("EUID", "0").output().unwrap();
        assert!(output.status.success(), "grub-mkconfig: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path} (Debian package grub-common): {error}"))
}

/// The reference parser's opinion on a script.
pub fn grub_accepts(script: &[u8]) -> bool {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, script).unwrap();
    let checked = Command::new("grub-script-check").arg(file.path()).output();
    checked.expect("grub-script-check (Debian package grub-common) is needed").status.success()
}
