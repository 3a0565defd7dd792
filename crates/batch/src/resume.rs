//! What an earlier run has finished.

use std::collections::HashMap;
use std::path::Path;

use crate::{Identity, Line};

/// Lines of an earlier run, by image and by what was asked for.
#[derive(Debug, Default)]
pub struct Finished<'a> {
    lines: HashMap<(&'a str, &'a str), &'a Line>,
    made: HashMap<&'a Path, &'a Identity>,
}

impl<'a> Finished<'a> {
    /// The last line of an image counts.
    pub fn new(lines: &'a [Line]) -> Self {
        let key = |line: &'a Line| ((line.image.as_str(), line.job_digest.as_str()), line);
        let made = lines.iter().filter_map(|line| line.target.as_ref());
        Self {
            lines: lines.iter().map(key).collect(),
            made: made.map(|made| (made.path.as_path(), &made.identity)).collect(),
        }
    }

    /// True when the file is what an earlier run made, and nobody changed it since.
    pub fn made(&self, target: &Path) -> bool {
        self.made.get(target).is_some_and(|made| Identity::of(target).is_ok_and(|now| now.is_same(made)))
    }

    /// The line that makes doing it again pointless: the same was asked of the same image by the same version, it
    /// ended in a way that another try would not change, and its result is still there.
    pub fn find(&self, image: &Path, job_digest: &str, version: &str) -> Option<&'a Line> {
        let line = *self.lines.get(&(image.to_str()?, job_digest))?;
        let is_same = |known: &Option<Identity>, path: &Path| {
            known.as_ref().is_some_and(|known| Identity::of(path).is_ok_and(|now| now.is_same(known)))
        };
        let source = if line.source_after.is_some() { &line.source_after } else { &line.source };
        let is_finished = line.coldfit == version
            && !line.is_worth_another_try()
            && is_same(source, image)
            && line.target.as_ref().is_none_or(|target| {
                Identity::of(&target.path).is_ok_and(|now| now.is_same(&target.identity))
            });
        is_finished.then_some(line)
    }
}
