//! The command line on a small disk: what the file commands do, judged by debugfs and e2fsck, and every exit
//! code with its stable error code.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says what it sees and fails by panicking"
)]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use support::{coldfit, coldfit_json, cut_partition, same_bytes, text, tool};

/// A raw disk with one ext4 partition made from a small tree.
struct Disk {
    dir: tempfile::TempDir,
    image: PathBuf,
}

impl Disk {
    fn new(mkfs: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        let put = |path: &str, content: &str| {
            let path = tree.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        put("etc/fstab", "UUID=11111111-2222-3333-4444-555555555555 / ext4 defaults 0 1\n");
        put("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
        put("etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1234:1234::/home/alice:/bin/sh\n");
        put("etc/group", "root:x:0:\nadm:x:4:\n");
        put("etc/motd", "welcome\n");
        put("sbin/init", "#!/bin/sh\n");
        let filesystem = dir.path().join("fs");
        let mut arguments =
            vec!["-q", "-t", "ext4", "-E", "root_owner=0:0", "-U", "11111111-2222-3333-4444-555555555555"];
        arguments.extend(mkfs);
        arguments.extend(["-d", tree.to_str().unwrap(), filesystem.to_str().unwrap(), "24M"]);
        tool("mke2fs", arguments);
        let image = dir.path().join("disk.raw");
        std::fs::File::create(&image).unwrap().set_len(26 << 20).unwrap();
        let mut sfdisk = Command::new("sfdisk").arg("-q").arg(&image).stdin(Stdio::piped()).spawn().unwrap();
        sfdisk.stdin.take().unwrap().write_all(b"label: dos\nstart=2048, type=83\n").unwrap();
        assert!(sfdisk.wait().unwrap().success());
        let argument = |name: &str, value: &Path| format!("{name}={}", value.display());
        let dd = [argument("if", &filesystem), argument("of", &image), "bs=1M".into(), "seek=1".into()];
        tool("dd", dd.iter().map(String::as_str).chain(["conv=notrunc,sparse", "status=none"]));
        Self { dir, image }
    }

    fn at(&self, path: &str) -> String {
        format!("{}:{path}", self.image.display())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The partition on its own, checked by e2fsck.
    fn checked_filesystem(&self, image: &Path) -> PathBuf {
        let filesystem = self.path("judged");
        cut_partition(image, 1, &filesystem);
        let output = Command::new("e2fsck").arg("-fn").arg(&filesystem).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
        filesystem
    }

    fn debugfs(&self, request: &str) -> String {
        let filesystem = self.checked_filesystem(&self.image);
        tool("debugfs", ["-R".as_ref(), request.as_ref(), filesystem.as_os_str()])
    }
}

fn with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_coldfit"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn succeed(arguments: &[&str]) -> String {
    let output = coldfit(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs a command that must fail with this exit code, and returns the stable code of its error.
fn fail(arguments: &[&str], exit: i32) -> String {
    let output = coldfit(["--format", "json"].iter().chain(arguments));
    assert_eq!(
        output.status.code(),
        Some(exit),
        "{arguments:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    let last = text(&output.stderr).lines().last().unwrap_or_default().to_owned();
    let error: Value =
        serde_json::from_str(&last).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {last}"));
    error["error"]["code"].as_str().unwrap().to_owned()
}

#[test]
fn file_commands_do_what_debugfs_sees() {
    let disk = Disk::new(&[]);
    let host = disk.path("host.bin");
    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&host, &content).unwrap();

    assert!(with_input(&["write", &disk.at("/etc/hostname")], b"web1\n").status.success());
    assert_eq!(disk.debugfs("cat /etc/hostname"), "web1\n");
    assert!(with_input(&["write", "--append", &disk.at("/etc/motd")], b"more\n").status.success());
    assert_eq!(disk.debugfs("cat /etc/motd"), "welcome\nmore\n");
    assert_eq!(succeed(&["cat", &disk.at("/etc/motd")]), "welcome\nmore\n");

    succeed(&["mkdir", "--parents", &disk.at("/srv/a/b")]);
    succeed(&["cp", host.to_str().unwrap(), &disk.at("/srv/a/b")]);
    let back = disk.path("back.bin");
    let dump = format!("dump /srv/a/b/host.bin {}", back.display());
    disk.debugfs(&dump);
    assert!(same_bytes(&host, &back));
    let out = disk.path("out.bin");
    succeed(&["cp", &disk.at("/srv/a/b/host.bin"), out.to_str().unwrap()]);
    assert!(same_bytes(&host, &out));

    succeed(&["chmod", "u=rw,go=", &disk.at("/srv/a/b/host.bin")]);
    succeed(&["chown", "alice:adm", &disk.at("/srv/a/b/host.bin")]);
    let stat = disk.debugfs("stat /srv/a/b/host.bin");
    assert!(stat.contains("Mode:  0600") && stat.contains("User:  1234   Group:     4"), "{stat}");

    succeed(&["ln", "/etc/motd", &disk.at("/etc/motd.hard")]);
    assert!(disk.debugfs("stat /etc/motd").contains("Links: 2"));
    succeed(&["ln", "--symbolic", "../dev/null", &disk.at("/etc/nothing")]);
    assert!(disk.debugfs("stat /etc/nothing").contains("Fast link dest: \"../dev/null\""));

    let listing = coldfit_json(["ls".to_owned(), "--recursive".into(), disk.at("/srv")]);
    let paths: Vec<&str> =
        listing.as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/srv/a", "/srv/a/b", "/srv/a/b/host.bin"]);

    assert_eq!(fail(&["rm", &disk.at("/srv")], 5), "guest.path.is-a-directory");
    succeed(&["rm", "--recursive", &disk.at("/srv")]);
    assert!(!disk.debugfs("ls /").contains("srv"));
    assert!(succeed(&["fsck", disk.image.to_str().unwrap()]).contains("clean"));
}

#[test]
fn a_copy_leaves_the_source_alone_and_undo_restores_it() {
    let disk = Disk::new(&[]);
    let before = disk.path("before.raw");
    std::fs::copy(&disk.image, &before).unwrap();
    let copy = disk.path("copy.raw");
    let copy_text = copy.to_str().unwrap();
    assert!(with_input(&["write", &disk.at("/etc/motd"), "-o", copy_text], b"new\n").status.success());
    assert!(same_bytes(&disk.image, &before));
    let filesystem = disk.checked_filesystem(&copy);
    assert_eq!(tool("debugfs", ["-R".as_ref(), "cat /etc/motd".as_ref(), filesystem.as_os_str()]), "new\n");
    assert_eq!(fail(&["mkdir", &disk.at("/x"), "-o", copy_text], 2), "target.refused");

    let undo = disk.path("undo");
    let undo_text = undo.to_str().unwrap();
    assert!(
        with_input(&["write", &disk.at("/etc/motd"), "--undo-file", undo_text], b"new\n").status.success()
    );
    assert!(!same_bytes(&disk.image, &before));
    succeed(&["undo", disk.image.to_str().unwrap(), "--undo-file", undo_text]);
    assert!(same_bytes(&disk.image, &before));
}

#[test]
fn every_exit_code_has_its_case() {
    let disk = Disk::new(&[]);
    let image = disk.image.to_str().unwrap();
    // 2
    assert_eq!(coldfit(["fix", image]).status.code(), Some(2));
    assert_eq!(fail(&["fix", image, "--profile", "nowhere"], 2), "profile.unknown");
    assert_eq!(fail(&["fix", image, "--profile", "kvm", "--only", "no.rule"], 2), "profile.rule.unknown");
    // 3
    let luks = disk.path("luks.raw");
    std::fs::copy(&disk.image, &luks).unwrap();
    let patch = |path: &Path, offset: u64, bytes: &[u8]| {
        use std::os::unix::fs::FileExt;
        std::fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
    };
    patch(&luks, (1 << 20) + 1024, &[0; 1024]);
    patch(&luks, 1 << 20, b"LUKS\xba\xbe\x00\x02");
    assert_eq!(fail(&["ls", &format!("{}:/", luks.display())], 3), "guest.root.unsupported");
    let vmdk = disk.path("x.vmdk");
    tool("qemu-img", ["create", "-q", "-f", "vmdk", vmdk.to_str().unwrap(), "1M"]);
    assert_eq!(fail(&["inspect", vmdk.to_str().unwrap()], 3), "image.format.unsupported");
    let bigalloc = Disk::new(&["-O", "bigalloc"]);
    let before = std::fs::read(&bigalloc.image).unwrap();
    assert_eq!(fail(&["mkdir", &bigalloc.at("/x")], 3), "ext4.feature.unsupported");
    assert!(std::fs::read(&bigalloc.image).unwrap() == before);
    // 4
    let broken = disk.path("broken.raw");
    std::fs::copy(&disk.image, &broken).unwrap();
    patch(&broken, (1 << 20) + 1024 + 4, &[0xff; 4]);
    let code = fail(&["ls", &format!("{}:/", broken.display())], 4);
    assert!(code.starts_with("ext4."), "{code}");
    // 5
    assert_eq!(fail(&["inspect", "/nonexistent/x.raw"], 5), "host.not-found");
    assert_eq!(fail(&["cat", &disk.at("/nonexistent")], 5), "guest.path.not-found");
    let mut holder = Command::new("qemu-io")
        .args(["-f", "raw", image])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The prompt answers once the image is open.
    holder.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
    let mut first = [0u8; 1];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut first).unwrap();
    assert_eq!(fail(&["mkdir", &disk.at("/x")], 5), "image.in-use");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    // 6
    let large = disk.path("large");
    std::fs::write(&large, vec![1; 40 << 20]).unwrap();
    let before = std::fs::read(&disk.image).unwrap();
    assert_eq!(fail(&["cp", large.to_str().unwrap(), &disk.at("/large")], 6), "guest.space.blocks");
    assert!(std::fs::read(&disk.image).unwrap() == before);
    // 1: damage that fsck reports
    let damaged = disk.path("damaged.raw");
    std::fs::copy(&disk.image, &damaged).unwrap();
    let filesystem = disk.path("damaged.fs");
    cut_partition(&damaged, 1, &filesystem);
    tool("debugfs", ["-w".as_ref(), "-R".as_ref(), "clri /etc/motd".as_ref(), filesystem.as_os_str()]);
    patch(&damaged, 1 << 20, &std::fs::read(&filesystem).unwrap());
    let report = coldfit(["--format", "json", "fsck", damaged.to_str().unwrap()]);
    assert_eq!(report.status.code(), Some(1), "{}", text(&report.stderr));
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["clean"], false);
}

#[test]
fn a_closed_reader_is_success_and_generated_texts_are_whole() {
    let disk = Disk::new(&[]);
    let script = "\"$0\" ls -R \"$1\" | true; echo ${PIPESTATUS[0]}";
    let output = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_coldfit"), &disk.at("/")])
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout).trim(), "0", "{}", text(&output.stderr));
    for shell in ["bash", "zsh", "fish"] {
        assert!(succeed(&["completions", shell]).contains("initramfs"), "{shell}");
    }
    let man = disk.path("man");
    std::fs::create_dir(&man).unwrap();
    succeed(&["man", man.to_str().unwrap()]);
    assert!(std::fs::read_to_string(man.join("coldfit-fix.1")).unwrap().contains("undo"));
    let profiles = coldfit_json(["profiles", "list"]);
    let names: Vec<&str> = profiles.as_array().unwrap().iter().filter_map(|one| one["id"].as_str()).collect();
    assert_eq!(names, ["alibaba", "alibaba-compat", "kvm", "openstack"]);
    let toml = succeed(&["profiles", "show", "kvm", "--toml"]);
    let own = disk.path("own.toml");
    std::fs::write(&own, toml.replace("id = \"kvm\"", "id = \"own\"")).unwrap();
    assert_eq!(coldfit_json(["profiles", "show", own.to_str().unwrap()])["id"], "own");
}
