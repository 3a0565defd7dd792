#![no_main]
//! Any bytes: kept exactly; edits stay inside one line.

use libfuzzer_sys::fuzz_target;
use vfs::Fstab;

fuzz_target!(|file: &[u8]| {
    let mut fstab = Fstab::parse(file);
    assert_eq!(fstab.to_bytes(), file);
    let lines = file.split_inclusive(|byte| *byte == b'\n').count();
    let entries: Vec<_> = fstab.entries().collect();
    for entry in &entries {
        let device = [&entry.device[..], b" #\\"].concat();
        assert!(fstab.set_device(entry.id, &device));
        assert!(fstab.add_option(entry.id, "nofail"));
        let edited = fstab.entry(entry.id).map(|entry| (entry.device.clone(), entry.has_option("nofail")));
        assert_eq!(edited, Some((device, true)));
    }
    let edited = fstab.to_bytes();
    assert_eq!(edited.split_inclusive(|byte| *byte == b'\n').count(), lines);
    assert_eq!(Fstab::parse(&edited).entries().count(), entries.len());
});
