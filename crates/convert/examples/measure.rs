//! Runs one flow and prints the outcome: `measure SOURCE TARGET raw|none|zlib|zstd [threads=N] [direct=never] [nosync]`.
//! For comparisons by `time` with other programs.
#![allow(clippy::print_stdout, reason = "a program")]
use std::path::Path;
use std::sync::{Arc, atomic::AtomicBool};

use codec::{Algorithm, Window, ZlibLevel, ZstdLevel};
use coldfit_convert::{
    Destination, Direct, Options, Qcow2Source, Qcow2Target, RawSource, Source, TargetFormat,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, from, to, kind, rest @ ..] = args.as_slice() else { return Err("see the source".into()) };
    let file = block::ImageFile::open(Path::new(from), block::Access::Read, &report::Silent)?;
    let source: Box<dyn Source> = match qcow2::Qcow2::open(file.reader(), file.path(), &block::DenyAll) {
        Ok(image) => Box::new(Qcow2Source::new(Arc::new(image), Some(file.handle()), qcow2::Depth::Chain)),
        Err(_) => Box::new(RawSource::new(&file)),
    };
    let compression = match kind.as_str() {
        "zlib" => Some(Algorithm::Zlib { level: ZlibLevel::default(), window: Window::Strict, fast: false }),
        "zstd" => Some(Algorithm::Zstd { level: ZstdLevel::default() }),
        _ => None,
    };
    let format = match kind.as_str() {
        "raw" => TargetFormat::Raw,
        _ => TargetFormat::Qcow2(Qcow2Target { compression, ..Qcow2Target::default() }),
    };
    let mut options = Options::default();
    for word in rest {
        match word.split_once('=') {
            Some(("threads", count)) => options.threads = Some(count.parse()?),
            Some(("direct", _)) => options.direct = Direct::Never,
            _ if word == "nosync" => options.sync = false,
            _ if word == "digest" => options.digest = true,
            _ => return Err(format!("{word}?").into()),
        }
    }
    let destination = Destination::NewFile { path: to.into(), force: true };
    let stop = AtomicBool::new(false);
    let outcome =
        coldfit_convert::convert(&*source, &format, &destination, &options, &report::Silent, &stop)?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
