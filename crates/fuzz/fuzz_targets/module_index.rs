//! Module files and indexes in both forms. The first byte picks the reader. Errors are fine; panics are bugs.
#![no_main]

use initramfs::{
    DepmodModule, IndexEntry, InitramfsError, KernelModules, ModuleSource, decode_index, encode_index,
    generate_builtin_indexes, generate_indexes,
};
use libfuzzer_sys::fuzz_target;

/// The same content under every name: the text forms skip what they do not know.
struct Same<'a>(&'a [u8]);

impl ModuleSource for Same<'_> {
    fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, InitramfsError> {
        Ok((!relative.ends_with(".bin")).then(|| self.0.to_vec()))
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 3 {
        0 => {
            if let Ok(entries) = decode_index("fuzz", bytes) {
                let all = entries.iter().flat_map(|entry| {
                    entry
                        .values
                        .iter()
                        .map(|(priority, value)| (entry.key.as_str(), *priority, value.as_str()))
                });
                if let Ok(again) = encode_index("fuzz", all) {
                    // Damaged trees may hold a key twice, or without values; every value reads back.
                    let count = |entries: &[IndexEntry]| {
                        entries.iter().map(|entry| entry.values.len()).sum::<usize>()
                    };
                    let again = decode_index("fuzz", &again).map(|entries| count(&entries));
                    assert_eq!(again.ok(), Some(count(&entries)));
                }
            }
        }
        1 => {
            if let Ok(module) = DepmodModule::parse("kernel/a.ko", bytes) {
                let _ = generate_indexes(vec![module], b"kernel/a.ko\n");
            }
        }
        _ => {
            if let Ok(kernel) = KernelModules::load("6.1", &Same(bytes)) {
                let names: Vec<String> =
                    kernel.modules().iter().take(8).map(|module| module.name.clone()).collect();
                let _ = kernel.closure(&names);
                kernel.lookup("pci:v00001AF4d00001001sv*");
            }
            let _ = generate_builtin_indexes(bytes, bytes);
        }
    }
});
