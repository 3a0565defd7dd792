//! Labels judged by libselinux's own `matchpathcon`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use coldfit_selinux::{Lookup, Policy};
use testkit::selinux_policy::SelinuxPolicy;
use testkit::{DirFs, tool};
use vfs::{FileKind, GuestPath};

/// Arguments of one call of the judge.
const BATCH: usize = 400;

const KINDS: [(FileKind, &str); 5] = [
    (FileKind::Regular, "file"),
    (FileKind::Directory, "dir"),
    (FileKind::Symlink, "lnk_file"),
    (FileKind::CharDevice, "chr_file"),
    (FileKind::Socket, "sock_file"),
];

/// What matchpathcon prints for each path, `<<none>>` included.
fn judge(policy: &Path, kind: &str, paths: &[String]) -> Vec<String> {
    let mut labels = Vec::new();
    for batch in paths.chunks(BATCH) {
        let mut command = tool::command("matchpathcon", ["-N", "-n", "-m", kind, "-P"]);
        let output = tool::output(command.arg(policy).args(batch)).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        labels.extend(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned));
    }
    assert_eq!(labels.len(), paths.len());
    labels
}

fn ours(policy: &Policy, kind: FileKind, path: &str) -> String {
    match policy.label(&GuestPath::new(path).unwrap(), kind) {
        Lookup::Label(label) => label,
        // The judge does not tell these apart.
        Lookup::NoLabel | Lookup::NoMatch => "<<none>>".into(),
        Lookup::Unknown(why) => panic!("{path}: {why}"),
    }
}

/// Where our labels and those of the judge differ.
fn differences(policy: &Policy, directory: &Path, paths: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (kind, name) in KINDS {
        for (path, theirs) in paths.iter().zip(judge(directory, name, paths)) {
            let ours = ours(policy, kind, path);
            if ours != theirs {
                found.push(format!("{path} ({name}): {ours}, libselinux says {theirs}"));
            }
        }
    }
    found
}

/// A path that an expression may stand for: `longest` takes what is optional, and something where much may
/// stand.
fn sample(pattern: &str, longest: bool) -> String {
    let mut path = String::new();
    let mut signs = pattern.chars();
    let mut depth = 0_u32;
    // Depth at which everything is left out up to the closing bracket: alternatives behind the first.
    let mut skipping: Option<u32> = None;
    while let Some(sign) = signs.next() {
        let text = match sign {
            '\\' => signs.next().map(String::from).unwrap_or_default(),
            '.' => "x".into(),
            '[' => {
                let inside: String = signs.by_ref().take_while(|sign| *sign != ']').collect();
                if inside.starts_with('^') { "y".into() } else { inside.chars().take(1).collect() }
            }
            '(' => {
                depth += 1;
                String::new()
            }
            '|' => {
                skipping = skipping.or(Some(depth));
                String::new()
            }
            ')' => {
                if skipping == Some(depth) {
                    skipping = None;
                }
                depth = depth.saturating_sub(1);
                String::new()
            }
            '?' | '*' if !longest => {
                path.pop();
                String::new()
            }
            '?' | '*' | '+' | '$' | '^' => String::new(),
            other => other.into(),
        };
        if skipping.is_none() {
            path.push_str(&text);
        }
    }
    path
}

fn is_plain(path: &str) -> bool {
    GuestPath::new(path).is_ok_and(|normal| normal.as_bytes() == path.as_bytes())
}

#[test]
fn every_label_of_a_real_policy_is_what_libselinux_says() {
    let root = SelinuxPolicy::debian().unwrap().root;
    let directory = root.join("etc/selinux/default");
    let tree = DirFs::from_host_dir(&root).unwrap().into_tree();
    let policy = Policy::read(&tree).unwrap().unwrap();
    assert_eq!(policy.contexts().problems(), [""; 0]);
    assert!(policy.contexts().len() > 5000, "{}", policy.contexts().len());

    let files = directory.join("contexts/files");
    // Paths that coldfit writes, and that go through the distribution's aliases.
    let mut paths: BTreeSet<String> = [
        "/etc/ssh/sshd_config.d/00-coldfit.conf",
        "/etc/chrony/chrony.conf",
        "/etc/sysctl.d/99-coldfit.conf",
        "/etc/systemd/system/firewalld.service",
        "/lib64/ld-linux-x86-64.so.2",
        "/var/run/sshd.pid",
        "/boot/initrd.img-6.1.0-28-amd64",
        "/",
        "/etc",
    ]
    .map(str::to_owned)
    .into();
    // Paths made from the policy's own expressions, and neighbours of theirs.
    for name in ["file_contexts", "file_contexts.homedirs"] {
        let text = fs::read_to_string(files.join(name)).unwrap();
        let patterns = text.lines().filter_map(|line| line.split_whitespace().next());
        for (index, pattern) in patterns.filter(|pattern| pattern.starts_with('/')).enumerate() {
            paths.insert(sample(pattern, true));
            paths.insert(sample(pattern, false));
            if index % 3 == 0 {
                paths.insert(format!("{}.rpmnew", sample(pattern, true)));
                paths.insert(format!("{}/sub/dir", sample(pattern, false)));
            }
        }
    }
    let paths: Vec<String> = paths.into_iter().filter(|path| is_plain(path)).collect();
    assert!(paths.len() > 2000, "{} paths", paths.len());
    let differences = differences(&policy, &directory, &paths);
    assert!(
        differences.is_empty(),
        "{}: {:#?}",
        differences.len(),
        &differences[..differences.len().min(20)]
    );
}

#[test]
fn local_entries_aliases_and_odd_expressions_are_taken_as_libselinux_takes_them() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/selinux/mine");
    let files = directory.join("contexts/files");
    fs::create_dir_all(&files).unwrap();
    let write = |name: &str, entries: &[(&str, &str)]| {
        let lines = entries.iter().map(|(left, kind)| format!("{left} system_u:object_r:{kind}_t:s0\n"));
        fs::write(files.join(name), lines.collect::<String>()).unwrap();
    };
    fs::write(root.path().join("etc/selinux/config"), "SELINUX=enforcing\nSELINUXTYPE=mine\n").unwrap();
    write(
        "file_contexts",
        &[
            ("/.*", "default"),
            ("/etc(/.*)?", "etc"),
            ("/etc/exact", "exact"),
            ("/etc/only\\.file --", "only"),
            ("/etc/a|/etc/b", "bar"),
            ("/etc/(c|d)/[^/]+", "one"),
            ("/et./dotted", "dotted"),
            ("/etc/[[:digit:]]{2,3}", "digits"),
            ("/etc/%{USERID}/x", "template"),
            ("/etc/[a-c&&b]", "class"),
            ("/etc/tail.*\\.conf$", "tail"),
            ("/usr/lib/.*\\.so(\\.[^/]*)* --", "lib"),
            ("/usr/lib(/.*)?", "usrlib"),
            ("/dev/[shmx]d[^/]* -b", "disk"),
            ("/srv/([^/]*/)?www(/.*)?", "www"),
        ],
    );
    write("file_contexts.local", &[("/etc/ex.*", "local"), ("/opt/mine(/.*)?", "opt")]);
    fs::write(files.join("file_contexts.subs"), "/data /srv\n/data/inner /opt/mine\n").unwrap();
    let aliases = "# lib\n/lib /usr/lib\n/lib64 /usr/lib\n/alias /\n/srv/moved /etc\n";
    fs::write(files.join("file_contexts.subs_dist"), aliases).unwrap();
    let tree = DirFs::from_host_dir(root.path()).unwrap().into_tree();
    let policy = Policy::read(&tree).unwrap().unwrap();
    let paths = "/ /x /etc /etc/exact /etc/exactly /etc/extra /etc/only.file /etc/onlyxfile /etc/a /etc/b \
        /etc/ax /etc/xb /x/etc/b /etc/c/d /etc/c/d/e /etc/dotted /etx/dotted /etc/12 /etc/1234 /etc/1 \
        /etc/%{USERID}/x /etc/& /etc/b&&b] /etc/tail.conf /etc/tail-x.confx /usr/lib /usr/library \
        /usr/lib/a.so /usr/lib/a.so.1.2 /usr/lib/so /lib /lib/a.so /lib64/b.so.1 /libx/a /dev/sda1 /dev/vda \
        /data/www /data/x/www/y /data /database /data/inner/z /data/moved/exact /alias/etc/exact /aliased \
        /alias /opt/mine /opt/mined /srv/a/b/www";
    let paths: Vec<String> = paths.split_whitespace().map(str::to_owned).collect();
    assert_eq!(differences(&policy, &directory, &paths), [""; 0]);
}

#[test]
fn a_guest_without_a_policy_has_none() {
    let none = |fs: DirFs| Policy::read(&fs.into_tree()).unwrap().is_none();
    assert!(none(DirFs::new()));
    assert!(none(DirFs::from_files([("/etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=targeted\n")])));
    assert!(none(DirFs::from_files([
        ("/etc/selinux/config", "SELINUXTYPE=../../x\n"),
        ("/x/contexts/files/file_contexts", "/.* a\n")
    ])));
    let fs = DirFs::from_files([
        ("/etc/selinux/config", ""),
        ("/etc/selinux/targeted/contexts/files/file_contexts", "/.* a\n"),
    ]);
    let policy = Policy::read(&fs.into_tree()).unwrap().unwrap();
    let label = policy.label(&GuestPath::root().join("x"), FileKind::Regular);
    assert_eq!(label, Lookup::Label("a".into()));
}

#[test]
fn hostile_policies_end_in_a_reason() {
    let label = |text: String| {
        let mut fs = DirFs::from_files([("/etc/selinux/config", "SELINUXTYPE=t\n")]);
        fs.add_file("/etc/selinux/t/contexts/files/file_contexts", text);
        let policy = Policy::read(&fs.into_tree()).unwrap().unwrap();
        policy.label(&GuestPath::root().join("x"), FileKind::Regular)
    };
    let many = (0..120_000).map(|index| format!("/.*{index} label\n")).collect();
    assert!(matches!(label(many), Lookup::Unknown(why) if why.contains("entries")));
    let wide = (0..20_000).map(|index| format!("/.*{index} label\n")).collect();
    assert!(matches!(label(wide), Lookup::Unknown(why) if why.contains("entries")));
    let large = "/.*(a{1,900}){1,900} label\n".to_owned();
    assert!(matches!(label(large), Lookup::Unknown(why) if why.starts_with("/etc/selinux/t/")));
}
