//! From what the command line names to entries: a manifest, a folder, a pattern, or an image itself.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::{BatchError, Entry, manifest};

/// Bytes of a manifest at most.
const MANIFEST_MAX: u64 = 1 << 30;
/// Endings of images in a folder. Those of formats that are not read count, too: that they are not is an outcome.
const IMAGE_ENDINGS: [&str; 8] = ["img", "qcow2", "raw", "vdi", "vhd", "vhdx", "vmdk", "vpc"];
/// Endings of manifests.
const MANIFEST_ENDINGS: [&str; 2] = ["jsonl", "ndjson"];

/// An entry and where it comes from: `MANIFEST:LINE`, or the argument.
pub type Placed = (Entry, String);

/// What one argument turned out to be.
#[derive(Debug)]
pub enum Input {
    /// Lines of JSON, or standard input (`-`).
    Manifest(PathBuf),
    /// All images directly in it.
    Folder(PathBuf),
    /// What it matches now.
    Glob(glob::Pattern),
    /// One image.
    Image(PathBuf),
}

impl Input {
    fn of(argument: &Path) -> Result<Self, BatchError> {
        let ending = argument.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if argument.is_dir() {
            return Ok(Self::Folder(argument.to_owned()));
        }
        if argument == Path::new("-") || MANIFEST_ENDINGS.contains(&ending) {
            return Ok(Self::Manifest(argument.to_owned()));
        }
        let text = argument.to_str().ok_or_else(|| BatchError::Name(argument.to_owned()))?;
        // A file with such a name is that file.
        if argument.exists() || !text.contains(['*', '?', '[']) {
            return Ok(Self::Image(argument.to_owned()));
        }
        let absolute = absolute(argument)?;
        let pattern = glob::Pattern::new(absolute.to_str().unwrap_or_default())
            .map_err(|error| BatchError::Glob { pattern: text.to_owned(), reason: error.msg.to_owned() })?;
        Ok(Self::Glob(pattern))
    }

    /// True when the next run would take `result` for an image.
    pub(crate) fn would_take(&self, result: &Path) -> bool {
        match self {
            Input::Folder(folder) => {
                let same = |one: &Path| {
                    one.canonicalize().ok().is_some_and(|one| Some(one) == folder.canonicalize().ok())
                };
                result.parent().is_some_and(same) && has_image_ending(result)
            }
            Input::Glob(pattern) => pattern.matches_path_with(result, GLOB_OPTIONS),
            Input::Manifest(_) | Input::Image(_) => false,
        }
    }
}

/// As a shell does it: a `*` neither crosses a `/` nor matches a leading dot.
const GLOB_OPTIONS: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

fn has_image_ending(path: &Path) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| IMAGE_ENDINGS.contains(&ending))
}

fn absolute(path: &Path) -> Result<PathBuf, BatchError> {
    std::path::absolute(path).map_err(|source| BatchError::io("resolve", path, source))
}

/// Entries of all arguments, in their order, each with where it comes from, and what the arguments were.
pub fn collect(arguments: &[PathBuf], stdin: &mut dyn Read) -> Result<(Vec<Placed>, Vec<Input>), BatchError> {
    let inputs = arguments.iter().map(|argument| Input::of(argument)).collect::<Result<Vec<_>, _>>()?;
    let mut entries = Vec::new();
    for (input, argument) in inputs.iter().zip(arguments) {
        let name = argument.display().to_string();
        match input {
            Input::Manifest(path) => entries.extend(read_manifest(path, &name, stdin)?),
            Input::Folder(folder) => {
                entries.extend(images_in(folder)?.into_iter().map(|image| (image, name.clone())))
            }
            Input::Glob(pattern) => {
                let paths = glob::glob_with(pattern.as_str(), GLOB_OPTIONS).map_err(|error| {
                    BatchError::Glob { pattern: name.clone(), reason: error.msg.to_owned() }
                })?;
                for path in paths {
                    let path = path.map_err(|error| {
                        let at = error.path().to_owned();
                        BatchError::io("list", &at, error.into())
                    })?;
                    if path.is_file() {
                        entries.push((entry(path)?, name.clone()));
                    }
                }
            }
            Input::Image(path) => entries.push((entry(absolute(path)?)?, name)),
        }
    }
    if entries.is_empty() {
        let names: Vec<String> = arguments.iter().map(|argument| argument.display().to_string()).collect();
        return Err(BatchError::NoImage(names.join(", ")));
    }
    Ok((entries, inputs))
}

fn entry(image: PathBuf) -> Result<Entry, BatchError> {
    if image.to_str().is_none() {
        return Err(BatchError::Name(image));
    }
    Ok(Entry { image, ..Entry::default() })
}

fn read_manifest(path: &Path, name: &str, stdin: &mut dyn Read) -> Result<Vec<Placed>, BatchError> {
    let mut text = Vec::new();
    let failed = |source| BatchError::io("read the manifest", path, source);
    let (shown, folder) = if path == Path::new("-") {
        stdin.take(MANIFEST_MAX).read_to_end(&mut text).map_err(failed)?;
        ("standard input", absolute(Path::new("."))?)
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MANIFEST_MAX).read_to_end(&mut text).map_err(failed)?;
        let file = absolute(path)?;
        (name, file.parent().unwrap_or(Path::new("/")).to_owned())
    };
    manifest::parse(&text, shown, &folder)
}

fn images_in(folder: &Path) -> Result<Vec<Entry>, BatchError> {
    let failed = |source| BatchError::io("list", folder, source);
    let mut images = Vec::new();
    for found in std::fs::read_dir(folder).map_err(failed)? {
        let path = found.map_err(failed)?.path();
        if has_image_ending(&path) && path.is_file() {
            images.push(absolute(&path)?);
        }
    }
    images.sort();
    images.into_iter().map(entry).collect()
}
