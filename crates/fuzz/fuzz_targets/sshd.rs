#![no_main]
//! Any bytes as `sshd_config`: kept, and a setting that is put in is the one that counts.

use config::sshd::{Scope, SshdConfig, place_setting};
use config::{Lines, MemoryFiles};
use libfuzzer_sys::fuzz_target;
use vfs::GuestPath;

fn sshd(text: &[u8]) {
    let main = GuestPath::root().join("/etc/ssh/sshd_config");
    let read = |text: &[u8]| {
        let mut files = MemoryFiles::default();
        files.put("/etc/ssh/sshd_config", text);
        SshdConfig::read(&files, &main).unwrap()
    };
    assert_eq!(Lines::parse(text).to_bytes(), text);
    let config = read(text);
    if !config.problems.is_empty() {
        return;
    }
    let place = |text: &[u8]| place_setting(text, &main, &read(text), "PermitRootLogin no", false).text;
    let placed = place(text);
    let after = read(&placed);
    assert_eq!(after.problems, Vec::<String>::new());
    if !after.setting("PermitRootLogin").iter().any(|line| line.scope == Scope::All) {
        assert_eq!(after.effective("permitrootlogin", None), ["no"]);
    }
    assert!(Lines::parse(&placed).has("PermitRootLogin no"));
    assert_eq!(place(&placed), placed);
}

fuzz_target!(|text: &[u8]| sshd(text));
