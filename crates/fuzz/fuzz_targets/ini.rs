#![no_main]
//! Any bytes as a file for configparser, and as other small files: a value that is set reads back.

use config::ini::Ini;
use config::time_daemon::{self, Daemon};
use config::{MemoryFiles, adjtime, assign, shadow};
use libfuzzer_sys::fuzz_target;
use vfs::GuestPath;

fn ini(text: &[u8]) {
    let Ok(before) = Ini::parse(text) else { return };
    let new = before.with("global", "index-url", "http://x/");
    let after = Ini::parse(&new).unwrap();
    assert_eq!(after.get("global", "index-url").unwrap().value, "http://x/");
    assert_eq!(after.with("global", "index-url", "http://x/"), new);
}

fn small_files(text: &[u8]) {
    assert!(adjtime::says_utc(&adjtime::with_utc(text)));
    if let Ok(Some(entry)) = shadow::find(text, "root") {
        let locked = shadow::with_password(text, entry.line, "*");
        assert_eq!(shadow::find(&locked, "root").unwrap().unwrap().password, "*");
    }
    let with = assign::with(text, "UTC", "UTC=yes");
    assert_eq!(assign::value(&with, "UTC").as_deref(), Some("yes"));
    for daemon in [Daemon::Chrony, Daemon::Ntp] {
        let mut files = MemoryFiles::default();
        files.put("/etc/chrony.conf", text);
        time_daemon::read(&files, &GuestPath::root().join("/etc/chrony.conf"), daemon).unwrap();
    }
}

fuzz_target!(|text: &[u8]| {
    ini(text);
    small_files(text);
});
