#![no_main]
//! Any unit file: what `enable` makes is what `disable` takes away.

use config::MemoryFiles;
use config::units::{UnitChange, Units};
use libfuzzer_sys::fuzz_target;

fn make(changes: Vec<UnitChange>, files: &mut MemoryFiles) {
    for change in changes {
        match change {
            UnitChange::Remove { path } => files.remove(&path),
            UnitChange::Link { path, target } => files.link(&path, &target),
        }
    }
}

fuzz_target!(|text: &[u8]| {
    let mut files = MemoryFiles::default();
    for (name, part) in ["a.service", "b@.service", "c.socket"].iter().zip(text.split(|byte| *byte == 0)) {
        files.put(&format!("/usr/lib/systemd/system/{name}"), part);
    }
    for name in ["a.service", "b@x.service", "c.socket"] {
        let units = Units::new(&files).expect("files in memory are read");
        units.starters(name).expect("in memory");
        units.state(name).expect("in memory");
        let changes = units.enable(name).expect("in memory");
        make(changes, &mut files);
        let units = Units::new(&files).expect("in memory");
        assert_eq!(units.enable(name).expect("in memory"), []);
        let changes = units.disable(name).expect("in memory");
        make(changes, &mut files);
        let units = Units::new(&files).expect("in memory");
        assert_eq!(units.disable(name).expect("in memory"), []);
    }
});
