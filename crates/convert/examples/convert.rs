//! Converts a raw or qcow2 image: `convert SOURCE TARGET [qcow2]`.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a program")]
use std::path::Path;
use std::sync::{Arc, atomic::AtomicBool};

use coldfit_convert::{Destination, Options, Qcow2Source, Qcow2Target, RawSource, Source, TargetFormat};

struct Percent(std::sync::Mutex<u64>);

impl report::Progress for Percent {
    fn event(&self, event: report::Event<'_>) {
        let Ok(mut total) = self.0.lock() else { return };
        match event {
            report::Event::Stage { total: Some(bytes), .. } => *total = bytes.max(1),
            report::Event::Advance { done } => eprint!("\r{} %", 100 * done / (*total).max(1)),
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, from, to, rest @ ..] = args.as_slice() else {
        return Err("convert SOURCE TARGET [qcow2]".into());
    };
    let file = block::ImageFile::open(Path::new(from), block::Access::Read, &report::Silent)?;
    let source: Box<dyn Source> = match qcow2::Qcow2::open(file.reader(), file.path(), &block::DenyAll) {
        Ok(image) => Box::new(Qcow2Source::new(Arc::new(image), Some(file.handle()), qcow2::Depth::Chain)),
        Err(_) => Box::new(RawSource::new(&file)),
    };
    let qcow2 = TargetFormat::Qcow2(Qcow2Target::default());
    let format = if rest.is_empty() { TargetFormat::Raw } else { qcow2 };
    let destination = Destination::NewFile { path: to.into(), force: false };
    let (options, progress, stop) =
        (Options::default(), Percent(std::sync::Mutex::new(1)), AtomicBool::new(false));
    let outcome = coldfit_convert::convert(&*source, &format, &destination, &options, &progress, &stop)?;
    println!("\n{} bytes written", outcome.bytes_written);
    Ok(())
}
