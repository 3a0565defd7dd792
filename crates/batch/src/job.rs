//! From entries to jobs: the command line's options filled in, names of results made, collisions refused.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::manifest::Action;
use crate::{BatchError, Entry, Identity, Input, Template};

/// One image and all that is to be done with it.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where it stands: `MANIFEST:LINE`, or the argument.
    pub origin: String,
    /// Everything that was asked for; `image`, `output` and `undo_file` are absolute, `action` is there.
    pub entry: Entry,
    /// What is done.
    pub action: Action,
    /// Bytes that the image takes on the host: what order and shards go by.
    pub allocated: u64,
}

impl Job {
    /// The image, as the report names it.
    pub fn image_name(&self) -> String {
        self.entry.image.to_string_lossy().into_owned()
    }

    /// True when the image itself is changed.
    pub fn is_in_place(&self) -> bool {
        self.action == Action::Fix && self.entry.output.is_none()
    }
}

/// Where results go that have no name of their own.
#[derive(Debug)]
pub(crate) struct Naming<'a> {
    folder: &'a Path,
    template: &'a Template,
}

/// Makes jobs of entries. `common` is what the command line says for all of them; `naming` gives results their names.
pub fn plan(
    entries: Vec<(Entry, String)>,
    inputs: &[Input],
    common: &Entry,
    naming: Option<(&Path, &Template)>,
) -> Result<Vec<Job>, BatchError> {
    let naming = naming.map(|(folder, template)| Naming { folder, template });
    let mut jobs = Vec::with_capacity(entries.len());
    for (index, (entry, origin)) in entries.into_iter().enumerate() {
        jobs.push(job(entry, origin, index, common, naming.as_ref())?);
    }
    for written in jobs.iter().filter_map(|job| job.entry.output.as_deref()) {
        if inputs.iter().any(|input| input.would_take(written)) {
            return Err(BatchError::AmongInputs { path: written.to_owned() });
        }
    }
    refuse_collisions(&jobs)?;
    Ok(jobs)
}

fn job(
    own: Entry,
    origin: String,
    index: usize,
    common: &Entry,
    naming: Option<&Naming<'_>>,
) -> Result<Job, BatchError> {
    let wrong = |image: &Path, reason: &str| BatchError::Job {
        origin: origin.clone(),
        image: image.to_owned(),
        reason: reason.to_owned(),
    };
    let mut set = common.set.clone();
    set.extend(own.set);
    // An entry that names rules means these, not those of the command line beside them.
    let (only, skip) = match (own.only, own.skip) {
        (None, None) => (common.only.clone(), common.skip.clone()),
        own => own,
    };
    let Some(action) = own.action.or(common.action) else {
        return Err(wrong(&own.image, "what to do with it is not said (do, or --do)"));
    };
    // A conversion of a manifest changes nothing unless its own line says so: the command line's profile is for its
    // checks and fixes.
    let is_plain = action == Action::Convert && own.action.is_some();
    let mut entry = Entry {
        action: Some(action),
        profile: own.profile.or_else(|| common.profile.clone().filter(|_| !is_plain)),
        set,
        only,
        skip,
        output_format: own.output_format.or_else(|| common.output_format.clone()),
        options: own.options.or_else(|| common.options.clone()),
        compress: own.compress.or_else(|| common.compress.clone()),
        force: own.force.or(common.force),
        input_format: own.input_format.or_else(|| common.input_format.clone()),
        root: own.root.or_else(|| common.root.clone()),
        image: own.image,
        output: own.output,
        undo_file: own.undo_file,
        allocated: own.allocated,
    };
    match action {
        Action::Check | Action::Fix if entry.profile.is_none() => {
            return Err(wrong(&entry.image, "it has no profile (profile, or --profile)"));
        }
        Action::Check if entry.output.is_some() || entry.undo_file.is_some() => {
            return Err(wrong(&entry.image, "a check writes nothing"));
        }
        Action::Convert if entry.undo_file.is_some() => {
            return Err(wrong(&entry.image, "a conversion leaves the image alone, there is nothing to undo"));
        }
        Action::Check => {}
        Action::Fix | Action::Convert => {
            if let (None, None, Some(naming)) = (&entry.output, &entry.undo_file, naming) {
                let extension = extension(&entry);
                let name = naming.template.name(&entry.image, &extension, index, entry.profile.as_deref());
                entry.output = Some(naming.folder.join(name));
            }
            if action == Action::Convert && entry.output.is_none() {
                return Err(wrong(&entry.image, "it has no place for the result (output, or --output-dir)"));
            }
        }
    }
    // A missing image is an outcome of its own, with no bytes.
    let allocated = entry
        .allocated
        .or_else(|| Identity::of(&entry.image).ok().map(|identity| identity.allocated))
        .unwrap_or(0);
    Ok(Job { origin, entry, action, allocated })
}

/// Ending of a result: that of its format, or the image's own.
fn extension(entry: &Entry) -> String {
    match entry.output_format.as_deref() {
        Some("vpc" | "vhd" | "vhd-fixed" | "vhd-dynamic") => "vhd".to_owned(),
        Some(format) => format.to_owned(),
        None => entry.image.extension().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// What one job writes, no other job may read or write.
fn refuse_collisions(jobs: &[Job]) -> Result<(), BatchError> {
    let mut written: HashMap<Place, &Job> = HashMap::new();
    let collision = |first: &Job, second: &Job, path: &Path| BatchError::Collision {
        first: first.origin.clone(),
        second: second.origin.clone(),
        path: path.to_owned(),
    };
    for job in jobs {
        let in_place = job.is_in_place().then_some(&job.entry.image);
        for path in in_place.into_iter().chain(&job.entry.output).chain(&job.entry.undo_file) {
            if let Some(first) = written.insert(Place::of(path), job) {
                return Err(collision(first, job, path));
            }
        }
    }
    for job in jobs {
        match written.get(&Place::of(&job.entry.image)) {
            Some(writer) if !std::ptr::eq(*writer, job) || !job.is_in_place() => {
                return Err(collision(writer, job, &job.entry.image));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A file by what it is, or by its name when it is not there yet.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Place {
    File { device: u64, inode: u64 },
    Name(PathBuf),
}

impl Place {
    fn of(path: &Path) -> Self {
        if let Ok(metadata) = std::fs::metadata(path) {
            return Self::File { device: metadata.dev(), inode: metadata.ino() };
        }
        let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
        match (folder, path.file_name()) {
            (Some(folder), Some(name)) => Self::Name(folder.join(name)),
            _ => Self::Name(path.to_owned()),
        }
    }
}
