#![no_main]
//! Any bytes as `sysctl.conf`: settings that are put in are in force.

use config::MemoryFiles;
use config::sysctl::{self, Reader, SysctlConfig};
use libfuzzer_sys::fuzz_target;

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

fuzz_target!(|text: &[u8]| sysctl_file(text));
