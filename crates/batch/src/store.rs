//! The report file: appended line by line, each line durable before the next image counts as done.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::{BatchError, Line};

/// Bytes of one line at most; with `--full` a line holds a whole report.
const LINE_MAX: usize = 64 << 20;

/// A report that is written. While it is open no other run can write it.
#[derive(Debug)]
pub struct Store {
    file: File,
    path: PathBuf,
}

impl Store {
    /// Begins a report; one that is there and not empty is refused.
    pub fn create(path: &Path) -> Result<Self, BatchError> {
        let store = Self::open(path)?;
        let len = store.file.metadata().map_err(|source| BatchError::io("inspect", path, source))?.len();
        if len > 0 {
            return Err(BatchError::ReportExists(path.to_owned()));
        }
        Ok(store)
    }

    /// Goes on with a report, or begins it, and gives the lines that it has. A last line that a kill tore is cut off.
    pub fn resume(path: &Path) -> Result<(Self, Vec<Line>), BatchError> {
        let mut store = Self::open(path)?;
        let mut lines = Vec::new();
        let whole = read(&mut store.file, path, &mut |line| {
            lines.push(line);
            Ok(())
        })?;
        let failed = |source| BatchError::io("cut a torn line off", path, source);
        store.file.set_len(whole).and_then(|()| store.file.seek(SeekFrom::End(0))).map_err(failed)?;
        Ok((store, lines))
    }

    fn open(path: &Path) -> Result<Self, BatchError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|source| BatchError::io("open the report", path, source))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Where the filesystem has no locks nothing keeps a second run out.
            Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK) => {}
            Err(Errno::WOULDBLOCK) => return Err(BatchError::ReportInUse(path.to_owned())),
            Err(errno) => return Err(BatchError::io("lock", path, errno.into())),
        }
        sync_folder(path)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Appends a line; it is durable when this returns.
    pub fn append(&mut self, line: &Line) -> Result<(), BatchError> {
        append_durably(&mut self.file, &self.path, line)
    }
}

fn append_durably(file: &mut File, path: &Path, value: &impl serde::Serialize) -> Result<(), BatchError> {
    let failed = |source| BatchError::io("append to", path, source);
    let mut text = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    let start = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let written = file.write_all(&text).and_then(|()| file.sync_data());
    if written.is_err() {
        // Half a line must not stay in front of the next one. When this fails, too, the next run cuts it off.
        let _ = file.set_len(start);
    }
    written.map_err(failed)
}

/// The name of a new file is durable when its folder is.
fn sync_folder(path: &Path) -> Result<(), BatchError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| BatchError::io("sync", folder, source))
}

/// Reads a report, one line after the other; a torn last line is left out.
pub fn read_lines(
    path: &Path,
    each: &mut dyn FnMut(Line) -> Result<(), BatchError>,
) -> Result<(), BatchError> {
    let mut file = File::open(path).map_err(|source| BatchError::io("open the report", path, source))?;
    read(&mut file, path, each).map(|_| ())
}

/// Gives every whole line and returns how many bytes they take.
fn read(
    file: &mut File,
    path: &Path,
    each: &mut dyn FnMut(Line) -> Result<(), BatchError>,
) -> Result<u64, BatchError> {
    let failed = |source| BatchError::io("read the report", path, source);
    let mut reader = BufReader::new(file);
    let mut whole = 0;
    let mut torn: Option<(usize, String)> = None;
    for number in 1.. {
        let mut text = Vec::new();
        let got = reader.by_ref().take(LINE_MAX as u64 + 1).read_until(b'\n', &mut text).map_err(failed)?;
        if got == 0 {
            break;
        }
        // Only the last line may be torn.
        if let Some((line, reason)) = torn {
            return Err(BatchError::ReportLine { path: path.to_owned(), line, reason });
        }
        if got > LINE_MAX {
            let reason = format!("the line has more than {LINE_MAX} bytes");
            return Err(BatchError::ReportLine { path: path.to_owned(), line: number, reason });
        }
        let parsed = match text.last() {
            Some(b'\n') => serde_json::from_slice(&text).map_err(|error| error.to_string()),
            _ => Err("the line has no end".into()),
        };
        match parsed {
            Ok(line) => {
                each(line)?;
                whole += got as u64;
            }
            Err(reason) => torn = Some((number, reason)),
        }
    }
    // One line alone that is no report line is another kind of file, not a torn report.
    match torn {
        Some((1, reason)) if whole == 0 && !starts_like_a_line(path) => {
            Err(BatchError::ReportLine { path: path.to_owned(), line: 1, reason })
        }
        _ => Ok(whole),
    }
}

fn starts_like_a_line(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(10).read_to_end(&mut head));
    let line = b"{\"schema\":";
    read.is_ok() && line.starts_with(&head[..head.len().min(line.len())])
}

/// New files that a run is about to make. What a killed run left half done is its own and may be replaced; what was
/// there before may not.
#[derive(Debug)]
pub struct Claims {
    path: PathBuf,
    file: File,
    earlier: HashSet<PathBuf>,
}

impl Claims {
    /// Opens the list beside the report.
    pub fn open(report: &Path) -> Result<Self, BatchError> {
        let mut name = report.as_os_str().to_owned();
        name.push(".claims");
        let path = PathBuf::from(name);
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = file.map_err(|source| BatchError::io("open", &path, source))?;
        let mut text = String::new();
        (&file).read_to_string(&mut text).map_err(|source| BatchError::io("read", &path, source))?;
        // A torn last line belongs to a job that had not begun.
        let earlier = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok(Self { path, file, earlier })
    }

    /// True when an earlier run, which was killed, was making this file.
    pub fn was_claimed(&self, target: &Path) -> bool {
        self.earlier.contains(target)
    }

    /// Notes, durably, that this file is about to be made.
    pub fn claim(&mut self, target: &Path) -> Result<(), BatchError> {
        append_durably(&mut self.file, &self.path, &target)
    }

    /// The run ended in order: nothing is half done.
    pub fn close(self) -> Result<(), BatchError> {
        std::fs::remove_file(&self.path).map_err(|source| BatchError::io("remove", &self.path, source))
    }
}
