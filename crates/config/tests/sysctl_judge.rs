//! Our evaluation of sysctl files against systemd's order of files, what `systemd-sysctl` would set, and what
//! `sysctl --system --dry-run` prints.
//!
//! `systemd-sysctl` runs without any privilege: it says what it sets, and cannot. procps reads fixed
//! directories: each tree is bound over them in a mount namespace of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use config::MemoryFiles;
use config::sysctl::{Reader, SysctlConfig, normalized};
use testkit::tool;

/// Keys that are looked at. procps passes over what this kernel does not have.
const KEYS: [&str; 8] = [
    "vm.swappiness",
    "kernel.panic",
    "kernel.sysrq",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.default.rp_filter",
    "net.ipv4.conf.lo.rp_filter",
    "net.ipv4.conf.default.arp_announce",
    "net.ipv4.tcp_syncookies",
];
const SHARED: &str = "/usr/lib/sysctl.d/50-default.conf";
const VENDOR: &str = "kernel.sysrq = 16\nnet.ipv4.conf.default.rp_filter = 2\nnet.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\n";

/// Files and, with `->` before the target, symlinks.
type Tree = Vec<(&'static str, &'static str)>;

fn trees() -> Vec<Tree> {
    vec![
        vec![],
        vec![(SHARED, VENDOR)],
        vec![("/etc/sysctl.conf", "vm.swappiness = 1\n")],
        vec![
            ("/etc/sysctl.conf", "vm.swappiness = 1\n"),
            ("/etc/sysctl.d/99-sysctl.conf", "->../sysctl.conf"),
        ],
        vec![(SHARED, VENDOR), ("/etc/sysctl.d/50-default.conf", "kernel.sysrq = 0\n")],
        vec![(SHARED, VENDOR), ("/etc/sysctl.d/50-default.conf", "->/dev/null")],
        vec![(SHARED, VENDOR), ("/etc/sysctl.d/50-default.conf", "")],
        vec![
            ("/etc/sysctl.d/10-a.conf", "vm.swappiness = 1\n"),
            ("/usr/lib/sysctl.d/20-b.conf", "vm.swappiness = 2\n"),
        ],
        vec![
            ("/etc/sysctl.d/20-a.conf", "vm.swappiness = 1\n"),
            ("/usr/lib/sysctl.d/10-b.conf", "vm.swappiness = 2\n"),
        ],
        vec![("/etc/sysctl.d/a.conf", "kernel.panic=1\n"), ("/etc/sysctl.d/Z.conf", "kernel.panic=2\n")],
        vec![("/etc/sysctl.d/a.conf", "kernel.panic=1\n"), ("/etc/sysctl.d/b", "kernel.panic=2\n")],
        vec![("/etc/sysctl.d/a.conf", "kernel.panic=1\n"), ("/etc/sysctl.d/.b.conf", "kernel.panic=2\n")],
        vec![("/etc/sysctl.d/a.conf", "kernel/panic = 7\nkernel.panic = 8\n")],
        vec![("/etc/sysctl.d/a.conf", "  kernel.panic   =   7   \n; kernel.panic = 8\n# kernel.panic = 9\n")],
        vec![("/etc/sysctl.d/a.conf", "-kernel.panic = 7\n")],
        vec![
            ("/etc/sysctl.d/a.conf", "net.ipv4.conf.*.rp_filter = 2\n"),
            ("/etc/sysctl.d/b.conf", "net.ipv4.conf.all.rp_filter = 0\n"),
        ],
        vec![
            ("/etc/sysctl.d/b.conf", "net.ipv4.conf.*.rp_filter = 2\n"),
            ("/etc/sysctl.d/a.conf", "net.ipv4.conf.all.rp_filter = 0\n"),
        ],
        vec![(
            "/etc/sysctl.d/a.conf",
            "net/ipv4/conf/*/rp_filter = 1\nnet.ipv4.conf.default.rp_filter = 0\n",
        )],
        vec![("/etc/sysctl.d/a.conf", "net.ipv4.conf.*.rp_filter = 1\n-net.ipv4.conf.lo.rp_filter\n")],
        vec![
            ("/etc/sysctl.d/a.conf", "kernel.panic = 1\nkernel.sysrq = 1\n"),
            ("/etc/sysctl.conf", "kernel.panic = 2\n"),
        ],
        vec![
            ("/etc/sysctl.d/a.conf", "net.ipv4.tcp_syncookies = 1\nvm.swappiness = 60\n"),
            ("/etc/sysctl.d/b.conf", "vm.swappiness = 60\n"),
        ],
        vec![
            ("/usr/local/lib/sysctl.d/a.conf", "kernel.panic = 1\n"),
            ("/usr/lib/sysctl.d/a.conf", "kernel.panic = 2\n"),
        ],
        vec![
            ("/run/sysctl.d/a.conf", "kernel.panic = 1\n"),
            ("/usr/lib/sysctl.d/a.conf", "kernel.panic = 2\n"),
        ],
        vec![("/run/sysctl.d/a.conf", "kernel.panic = 1\n"), ("/etc/sysctl.d/b.conf", "kernel.panic = 2\n")],
        vec![
            (SHARED, VENDOR),
            ("/etc/sysctl.conf", "kernel.sysrq = 1\n"),
            ("/etc/sysctl.d/99-sysctl.conf", "->../sysctl.conf"),
            ("/etc/sysctl.d/zz.conf", "kernel.sysrq = 5\n"),
        ],
        vec![
            ("/etc/sysctl.d/a.conf", "kernel.panic = 1\r\n"),
            ("/etc/sysctl.d/b.conf", "nonsense\nkernel.sysrq = 2"),
        ],
    ]
}

fn write(root: &Path, tree: &Tree) {
    for folder in ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (name, text) in tree {
        let file = root.join(name.trim_start_matches('/'));
        match text.strip_prefix("->") {
            Some(target) => symlink(target, file).unwrap(),
            None => fs::write(file, text).unwrap(),
        }
    }
}

fn ours(tree: &Tree, reader: Reader) -> SysctlConfig {
    let mut files = MemoryFiles::default();
    for (name, text) in tree {
        match text.strip_prefix("->") {
            Some(target) => files.link(name, target),
            None => files.put(name, *text),
        }
    }
    SysctlConfig::read(&files, reader).unwrap()
}

/// Values by key; keys that get none are not in it.
fn values(config: &SysctlConfig) -> BTreeMap<String, String> {
    let value = |key: &&str| Some((normalized(key), config.effective(key)?.to_owned()));
    KEYS.iter().filter_map(value).collect()
}

/// The last value of each of our keys among `(key, value)` pairs.
fn last<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let known: Vec<String> = KEYS.iter().map(|key| normalized(key)).collect();
    pairs
        .map(|(key, value)| (normalized(key.trim()), value.trim().to_owned()))
        .filter(|(key, _)| known.contains(key))
        .collect()
}

#[test]
fn systemd_reads_the_same_files_in_the_same_order_and_sets_the_same_values() {
    assert!(trees().len() >= 20);
    for tree in trees() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &tree);
        let option = format!("--root={}", root.path().display());
        let shown = tool::run("systemd-analyze", ["cat-config", &option, "sysctl.d"]);
        // Without any file there is nothing to show, which is an error there.
        let shown = shown.unwrap_or_default();
        let prefix = format!("# {}", root.path().display());
        let order: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
        let config = ours(&tree, Reader::Systemd);
        let own: Vec<String> = config.files.iter().map(ToString::to_string).collect();
        assert_eq!(own, order, "{tree:?}\n{shown}");
        if own.is_empty() {
            continue;
        }
        let files: Vec<String> = own.iter().map(|file| format!("{}{file}", root.path().display())).collect();
        let said = unprivileged(root.path(), &files);
        let set = said.lines().filter_map(|line| {
            let (key, value) = line.strip_prefix("Setting '")?.split_once("' to '")?;
            Some((key.trim_start_matches("/proc/sys/"), value.trim_end().trim_end_matches('\'')))
        });
        assert_eq!(values(&config), last(set), "{tree:?}\n{said}");
    }
}

/// What `systemd-sysctl` says when it may not write anything.
fn unprivileged(root: &Path, files: &[String]) -> String {
    // /proc/sys is bound to itself and made read-only: whoever runs this, nothing can be set.
    let script = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && \
                  exec /lib/systemd/systemd-sysctl \"$@\" 2>&1";
    let mut command = tool::command("unshare", ["-r", "-m", "sh", "-c", script, "sh"]);
    command.args(files).current_dir(root);
    command.env("SYSTEMD_LOG_LEVEL", "debug").env("SYSTEMD_LOG_TARGET", "console");
    let output = tool::output(&mut command).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("Parsing"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn procps_sets_the_same_values() {
    let folder = tempfile::tempdir().unwrap();
    for (case, tree) in trees().iter().enumerate() {
        write(&folder.path().join(format!("{case}.d")), tree);
    }
    // The fixed places are made of empty filesystems, so that nothing of this machine is read.
    let script = "set -e; cd \"$1\"; mount -t tmpfs none /run; mount -t tmpfs none /usr/local/lib
        mkdir /run/sysctl.d /usr/local/lib/sysctl.d; i=0
        while [ -d $i.d ]; do
            mount --bind $i.d/etc /etc
            mount --bind $i.d/run/sysctl.d /run/sysctl.d
            mount --bind $i.d/usr/lib/sysctl.d /usr/lib/sysctl.d
            mount --bind $i.d/usr/local/lib/sysctl.d /usr/local/lib/sysctl.d
            sysctl --system --dry-run >$i.out 2>$i.err || true
            umount /etc /run/sysctl.d /usr/lib/sysctl.d /usr/local/lib/sysctl.d; i=$((i + 1))
        done";
    let root = folder.path().to_str().unwrap();
    tool::run("unshare", ["-r", "-m", "sh", "-c", script, "sh", root]).unwrap();
    for (case, tree) in trees().iter().enumerate() {
        let out = fs::read_to_string(folder.path().join(format!("{case}.out"))).unwrap();
        let set = out.lines().filter_map(|line| line.split_once(" = "));
        let mut own = values(&ours(tree, Reader::Procps));
        own.retain(|key, _| Path::new("/proc/sys").join(key).exists());
        assert_eq!(own, last(set), "{tree:?}\n{out}");
    }
}
