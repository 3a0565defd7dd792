//! Damaged and hostile files: no panic, and edits that read back as they were asked for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use config::ini::Ini;
use config::sshd::{Scope, SshdConfig, place_setting};
use config::sysctl::{self, Reader, SysctlConfig};
use config::time_daemon::{self, Daemon};
use config::{Lines, MemoryFiles, adjtime, assign, shadow};
use vfs::GuestPath;

const SEEDS: [&[u8]; 5] = [
    include_bytes!("../../../testdata/fuzz/sshd/debian"),
    include_bytes!("../../../testdata/fuzz/sshd/match"),
    include_bytes!("../../../testdata/fuzz/sysctl/default"),
    include_bytes!("../../../testdata/fuzz/ini/pip"),
    b"root:*:1:0:99999:7:::\n0.0 0 0.0\n0\nLOCAL\nUTC=no\nserver a iburst\nconfdir /etc\ninclude /etc/chrony.conf\n",
];

/// xorshift64*: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

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

fn sysctl_file(text: &[u8]) {
    let settings = ["vm.swappiness = 0".to_owned(), "net.ipv4.conf.all.rp_filter = 0".to_owned()];
    let (placed, _) = sysctl::place_settings(text, &settings);
    let mut files = MemoryFiles::default();
    files.put("/etc/sysctl.conf", placed.clone());
    let config = SysctlConfig::read(&files, Reader::Procps).unwrap();
    assert_eq!(config.effective("vm.swappiness"), Some("0"));
    assert_eq!(config.effective("net/ipv4/conf/all/rp_filter"), Some("0"));
    assert_eq!(sysctl::place_settings(&placed, &settings), (placed.clone(), Vec::new()));
}

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

fn exercise(text: &[u8]) {
    sshd(text);
    sysctl_file(text);
    ini(text);
    small_files(text);
}

#[test]
fn changed_files_are_read_and_edited() {
    let rounds = std::env::var("COLDFIT_HOSTILE_ROUNDS").ok().and_then(|text| text.parse().ok());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let signs = b"\n\r\t \"'\\=#;[]:*-.!\0\xff\xc3Ma";
    for seed in SEEDS {
        exercise(seed);
        for _ in 0..rounds.unwrap_or(2000) {
            let mut text = seed.to_vec();
            for _ in 0..=random.below(6) {
                let at = random.below(text.len() + 1);
                let sign = signs[random.below(signs.len())];
                match random.below(4) {
                    0 => text.insert(at, sign),
                    1 => text.truncate(at),
                    2 if at < text.len() => text[at] = sign,
                    _ => {
                        let piece = text[at..].iter().copied().take(random.below(60)).collect::<Vec<_>>();
                        let to = random.below(text.len() + 1);
                        text.splice(to..to, piece);
                    }
                }
            }
            exercise(&text);
        }
    }
}

#[test]
fn files_that_include_each_other_end() {
    let mut files = MemoryFiles::default();
    let all = "Include d/*.conf\n".repeat(8);
    files.put("/etc/ssh/sshd_config", all.as_str());
    for name in 0..8 {
        files.put(&format!("/etc/ssh/d/{name}.conf"), all.as_str());
    }
    let config = SshdConfig::read(&files, &GuestPath::root().join("/etc/ssh/sshd_config")).unwrap();
    assert!(!config.problems.is_empty());
    let mut files = MemoryFiles::default();
    files.put("/etc/chrony.conf", "include /etc/chrony.conf\nconfdir /etc\n".repeat(50));
    let lines =
        time_daemon::read(&files, &GuestPath::root().join("/etc/chrony.conf"), Daemon::Chrony).unwrap();
    assert!(lines.len() < 1_000_000);
}
