//! Which lines of which files chronyd reads, against `chronyd -p`, which prints them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::fs;

use config::MemoryFiles;
use config::time_daemon::{self, Daemon};
use testkit::{deb, tool};
use vfs::GuestPath;

/// Files below a folder that stands for `@`.
const TREES: [&[(&str, &str)]; 12] = [
    &[("main", "server a\n")],
    &[("main", "! x\n; y\n# z\n% w\n\n   \nserver a iburst\n")],
    &[("main", "  Server   a\tiburst  \nMAKESTEP 1 3\n")],
    &[("main", "confdir @/c\nserver a\n"), ("c/2.conf", "server c2\n"), ("c/10.conf", "server c10\n")],
    &[
        ("main", "confdir @/c @/d\n"),
        ("c/b.conf", "server cb\n"),
        ("d/a.conf", "server da\n"),
        ("d/b.conf", "server db\n"),
    ],
    &[("main", "confdir @/d\nconfdir @/c\n"), ("c/a.conf", "server ca\n"), ("d/a.conf", "server da\n")],
    &[("main", "confdir @/c\nserver a\n"), ("c/a.sources", "server no\n"), ("c/a.conf", "server yes\n")],
    &[("main", "include @/x*.conf\nserver a\n"), ("x2.conf", "server x2\n"), ("x1.conf", "server x1\n")],
    &[
        ("main", "include @/x.conf\nserver a\n"),
        ("x.conf", "include @/y.conf\nserver x\n"),
        ("y.conf", "server y\n"),
    ],
    &[("main", "include @/none*.conf\nconfdir @/none\nserver a\n")],
    &[("main", "pool p iburst maxsources 4\npeer q\nrtcsync\ndriftfile /var/lib/chrony/drift\n")],
    &[("main", "server a\r\nkeyfile /etc/chrony.keys\r\n")],
];

#[test]
fn chronyd_reads_the_same_lines_in_the_same_order() {
    let chronyd = deb::cached("chrony").unwrap().join("usr/sbin/chronyd");
    for tree in TREES {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_str().unwrap();
        let mut files = MemoryFiles::default();
        for (name, text) in tree {
            let (file, text) = (format!("{at}/{name}"), text.replace('@', at));
            fs::create_dir_all(std::path::Path::new(&file).parent().unwrap()).unwrap();
            fs::write(&file, &text).unwrap();
            files.put(&file, text);
        }
        let main = format!("{at}/main");
        let printed = tool::run(chronyd.to_str().unwrap(), ["-p", "-f", &main]).unwrap();
        let theirs: Vec<String> =
            printed.lines().filter_map(|line| time_daemon::normalized(line, Daemon::Chrony)).collect();
        let lines = time_daemon::read(&files, &GuestPath::new(&main).unwrap(), Daemon::Chrony).unwrap();
        // What only names other files is not printed.
        let names_files = |text: &str| text.starts_with("include ") || text.starts_with("confdir ");
        let ours: Vec<String> =
            lines.into_iter().map(|line| line.text).filter(|text| !names_files(text)).collect();
        assert_eq!(ours, theirs, "{tree:?}");
    }
}
