//! A host in memory that can lose power after every operation.
//!
//! [`CrashHost`] keeps a log of everything that changes it. [`CrashHost::crash`] builds the host as a power failure
//! behind any operation may leave it: what was synced stays; of everything else each 512-byte sector of each write, each
//! change of length and each change of a directory is there or not, independently of the order in which it was
//! asked for, and a sector may be torn.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use block::{Access, Host, HostFile, HostFileKind, HostMetadata, LockOutcome};

const SECTOR: u64 = 512;

/// A change that the host was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A new name for a new file.
    Create {
        /// Where.
        path: PathBuf,
        /// Which file.
        inode: u64,
    },
    /// Bytes of a file.
    Write {
        /// Which file.
        inode: u64,
        /// From where on.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Length of a file.
    SetLen {
        /// Which file.
        inode: u64,
        /// New length.
        len: u64,
    },
    /// Room is reserved for a file.
    Allocate {
        /// Which file.
        inode: u64,
        /// Bytes.
        len: u64,
    },
    /// A file's content becomes durable.
    Sync {
        /// Which file.
        inode: u64,
    },
    /// A name is changed.
    Rename {
        /// Old name.
        from: PathBuf,
        /// New name.
        to: PathBuf,
        /// Which file.
        inode: u64,
    },
    /// A name is removed.
    Remove {
        /// Which name.
        path: PathBuf,
    },
    /// A directory's names become durable.
    SyncDir {
        /// Which directory.
        dir: PathBuf,
    },
}

/// How much of what was not synced survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Everything not synced is lost.
    All,
    /// Nothing is lost: what a killed process leaves.
    None,
    /// Each piece is there or not, and sectors are torn, as this seed decides.
    Random(u64),
}

#[derive(Debug, Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    /// Number of the operation that changed it last; stands for the time.
    modified: u64,
}

#[derive(Debug, Clone, Default)]
struct Disk {
    names: BTreeMap<PathBuf, u64>,
    files: BTreeMap<u64, Content>,
}

#[derive(Debug, Default)]
struct State {
    /// What was durable before the first operation of the log.
    start: Disk,
    now: Disk,
    log: Vec<Operation>,
    next_inode: u64,
    clock: u64,
    /// Operations from this number of the log on fail with this error, as many as said.
    failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    from: usize,
    errno: i32,
    left: usize,
}

/// A host in memory; clones share it.
#[derive(Debug, Clone, Default)]
pub struct CrashHost {
    state: Arc<Mutex<State>>,
}

impl CrashHost {
    /// A host with these durable files.
    pub fn with_files<'f>(files: impl IntoIterator<Item = (&'f str, Vec<u8>)>) -> Self {
        let host = Self::default();
        {
            let mut state = host.lock();
            for (path, bytes) in files {
                state.next_inode += 1;
                let inode = state.next_inode;
                state.start.names.insert(PathBuf::from(path), inode);
                state.start.files.insert(inode, Content { bytes, modified: 0 });
            }
            state.now = state.start.clone();
        }
        host
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything asked for so far.
    pub fn log(&self) -> Vec<Operation> {
        self.lock().log.clone()
    }

    /// Content of a file; `None` when there is none of that name.
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let inode = state.now.names.get(Path::new(path))?;
        state.now.files.get(inode).map(|content| content.bytes.clone())
    }

    /// All names.
    pub fn names(&self) -> BTreeSet<PathBuf> {
        self.lock().now.names.keys().cloned().collect()
    }

    /// The same host with everything durable and an empty log.
    pub fn settled(&self) -> Self {
        let state = self.lock();
        let settled = State {
            start: state.now.clone(),
            now: state.now.clone(),
            log: Vec::new(),
            next_inode: state.next_inode,
            clock: state.clock,
            failure: None,
        };
        Self { state: Arc::new(Mutex::new(settled)) }
    }

    /// Lets `count` operations fail with `errno`, beginning with number `from` of the log to come. A failing write
    /// leaves its first half behind.
    pub fn fail(&self, from: usize, count: usize, errno: i32) {
        self.lock().failure = Some(Failure { from, errno, left: count });
    }

    /// Lets everything succeed again.
    pub fn heal(&self) {
        self.lock().failure = None;
    }

    /// The host after the power failed when the first `done` operations had been asked for.
    pub fn crash(&self, done: usize, loss: Loss) -> Self {
        self.crash_of(done, loss, None)
    }

    /// [`CrashHost::crash`] of a host that only pretended to do the sync that is operation number `ignored`: shows
    /// that the judge would notice if it were not asked for.
    pub fn crash_ignoring(&self, done: usize, loss: Loss, ignored: usize) -> Self {
        self.crash_of(done, loss, Some(ignored))
    }

    fn crash_of(&self, done: usize, loss: Loss, ignored: Option<usize>) -> Self {
        let state = self.lock();
        let log = state.log.get(..done).unwrap_or(&state.log);
        let mut chance = Chance::new(loss, done as u64);
        let mut disk = state.start.clone();
        let first_clock = state.clock - state.log.len() as u64;
        for (number, operation) in log.iter().enumerate() {
            let later = log.iter().enumerate().skip(number + 1);
            let later = later.filter(|(number, _)| Some(*number) != ignored).map(|(_, later)| later);
            let is_durable = is_synced_later(operation, later);
            let clock = first_clock + number as u64 + 1;
            match operation {
                Operation::Create { path, inode } => {
                    disk.files.entry(*inode).or_default();
                    if is_durable.first || chance.keeps() {
                        disk.names.insert(path.clone(), *inode);
                    }
                }
                Operation::Write { inode, offset, bytes } => {
                    let file = disk.files.entry(*inode).or_default();
                    let mut at = 0;
                    while at < bytes.len() {
                        let here = offset + at as u64;
                        let sector_end = (here / SECTOR + 1) * SECTOR;
                        let end = bytes.len().min(at + (sector_end - here) as usize);
                        let kept = if is_durable.first { end - at } else { chance.kept_of(end - at) };
                        if kept > 0 {
                            put(&mut file.bytes, here, &bytes[at..at + kept]);
                            file.modified = clock;
                        }
                        at = end;
                    }
                }
                Operation::SetLen { inode, len } => {
                    if is_durable.first || chance.keeps() {
                        let file = disk.files.entry(*inode).or_default();
                        file.bytes.resize(*len as usize, 0);
                        file.modified = clock;
                    }
                }
                Operation::Rename { from, to, inode } => {
                    // Within one directory both halves come together; across two, each has its own fate.
                    let keeps_new = is_durable.second || chance.keeps();
                    let same_dir = from.parent() == to.parent();
                    let keeps_old_gone =
                        if same_dir { keeps_new } else { is_durable.first || chance.keeps() };
                    if keeps_new {
                        disk.names.insert(to.clone(), *inode);
                    }
                    if keeps_old_gone && disk.names.get(from) == Some(inode) {
                        disk.names.remove(from);
                    }
                }
                Operation::Remove { path } => {
                    if is_durable.first || chance.keeps() {
                        disk.names.remove(path);
                    }
                }
                Operation::Allocate { .. } | Operation::Sync { .. } | Operation::SyncDir { .. } => {}
            }
        }
        let crashed = State {
            start: disk.clone(),
            now: disk,
            log: Vec::new(),
            next_inode: state.next_inode,
            clock: state.clock,
            failure: None,
        };
        Self { state: Arc::new(Mutex::new(crashed)) }
    }
}

/// Whether the halves of an operation were made durable: `first` for the file or the (old) name, `second` for the new
/// name of a rename.
struct Durable {
    first: bool,
    second: bool,
}

fn is_synced_later<'l>(operation: &Operation, later: impl Iterator<Item = &'l Operation> + Clone) -> Durable {
    let file_synced = |wanted: u64| {
        later.clone().any(|operation| matches!(operation, Operation::Sync { inode } if *inode == wanted))
    };
    let dir_synced = |path: &Path| {
        later.clone().any(
            |operation| matches!(operation, Operation::SyncDir { dir } if Some(dir.as_path()) == path.parent()),
        )
    };
    let (first, second) = match operation {
        Operation::Write { inode, .. } | Operation::SetLen { inode, .. } => (file_synced(*inode), true),
        Operation::Create { path, .. } | Operation::Remove { path } => (dir_synced(path), true),
        Operation::Rename { from, to, .. } => (dir_synced(from), dir_synced(to)),
        Operation::Allocate { .. } | Operation::Sync { .. } | Operation::SyncDir { .. } => (true, true),
    };
    Durable { first, second }
}

fn put(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = offset as usize;
    if file.len() < start + bytes.len() {
        file.resize(start + bytes.len(), 0);
    }
    file[start..start + bytes.len()].copy_from_slice(bytes);
}

/// Decides what survives.
struct Chance {
    loss: Loss,
    state: u64,
    /// Of 256 pieces, how many survive; differs from crash to crash.
    survival: u64,
}

impl Chance {
    fn new(loss: Loss, salt: u64) -> Self {
        let seed = if let Loss::Random(seed) = loss { seed } else { 0 };
        let mut chance = Self { loss, state: seed.wrapping_mul(0x9e37_79b9) ^ (salt << 32), survival: 0 };
        chance.survival = [16, 128, 240][(chance.next() % 3) as usize];
        chance
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn keeps(&mut self) -> bool {
        match self.loss {
            Loss::All => false,
            Loss::None => true,
            Loss::Random(_) => self.next() % 256 < self.survival,
        }
    }

    /// How much of a piece of a sector survives: nothing, everything or, torn, its beginning.
    fn kept_of(&mut self, len: usize) -> usize {
        if !self.keeps() {
            return 0;
        }
        if matches!(self.loss, Loss::Random(_)) && self.next().is_multiple_of(8) {
            return (self.next() % len as u64) as usize;
        }
        len
    }
}

impl State {
    /// Logs an operation, or fails it.
    fn ask(&mut self, operation: Operation) -> io::Result<()> {
        if let Some(failure) = &mut self.failure
            && self.log.len() >= failure.from
            && failure.left > 0
        {
            failure.left -= 1;
            let errno = failure.errno;
            if let Operation::Write { inode, offset, mut bytes } = operation {
                bytes.truncate(bytes.len() / 2);
                self.apply(Operation::Write { inode, offset, bytes });
            }
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.apply(operation);
        Ok(())
    }

    fn apply(&mut self, operation: Operation) {
        self.clock += 1;
        let clock = self.clock;
        match &operation {
            Operation::Create { path, inode } => {
                self.now.names.insert(path.clone(), *inode);
                self.now.files.insert(*inode, Content { bytes: Vec::new(), modified: clock });
            }
            Operation::Write { inode, offset, bytes } => {
                let file = self.now.files.entry(*inode).or_default();
                put(&mut file.bytes, *offset, bytes);
                file.modified = clock;
            }
            Operation::SetLen { inode, len } => {
                let file = self.now.files.entry(*inode).or_default();
                file.bytes.resize(*len as usize, 0);
                file.modified = clock;
            }
            Operation::Rename { from, to, inode } => {
                self.now.names.remove(from);
                self.now.names.insert(to.clone(), *inode);
            }
            Operation::Remove { path } => {
                self.now.names.remove(path);
            }
            Operation::Allocate { .. } | Operation::Sync { .. } | Operation::SyncDir { .. } => {}
        }
        self.log.push(operation);
    }

    fn inode_of(&self, path: &Path) -> io::Result<u64> {
        self.now.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Host for CrashHost {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let state = self.lock();
        let is_dir = state.now.names.keys().any(|name| name.parent() == Some(path));
        if is_dir || state.now.names.contains_key(path) {
            return Ok(path.to_owned());
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn open(&self, path: &Path, _access: Access) -> io::Result<Box<dyn HostFile>> {
        let inode = self.lock().inode_of(path)?;
        Ok(Box::new(CrashFile { host: self.clone(), inode }))
    }

    fn create(&self, path: &Path, _mode: u32) -> io::Result<Box<dyn HostFile>> {
        let mut state = self.lock();
        if state.now.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.next_inode += 1;
        let inode = state.next_inode;
        state.ask(Operation::Create { path: path.to_owned(), inode })?;
        Ok(Box::new(CrashFile { host: self.clone(), inode }))
    }

    fn scratch(&self, _dir: &Path) -> io::Result<Box<dyn HostFile>> {
        // No crash brings it back, so it needs no log: it is a host of its own.
        let scratch = CrashHost::with_files([("/scratch", Vec::new())]);
        scratch.open(Path::new("/scratch"), Access::Write)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let inode = state.inode_of(from)?;
        state.ask(Operation::Rename { from: from.to_owned(), to: to.to_owned(), inode })
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.lock().now.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.inode_of(path)?;
        state.ask(Operation::Remove { path: path.to_owned() })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.lock().ask(Operation::SyncDir { dir: dir.to_owned() })
    }
}

struct CrashFile {
    host: CrashHost,
    inode: u64,
}

impl HostFile for CrashFile {
    fn metadata(&self) -> io::Result<HostMetadata> {
        let state = self.host.lock();
        let content = state.now.files.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        Ok(HostMetadata {
            len: content.bytes.len() as u64,
            device: 1,
            inode: self.inode,
            owner: 0,
            mode: 0o644,
            modified: (content.modified as i64, 0),
            changed: (content.modified as i64, 0),
            kind: HostFileKind::Regular,
        })
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.host.lock();
        let content = state.now.files.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let start = offset as usize;
        let bytes = content.bytes.get(start..start + buf.len());
        match bytes {
            Some(bytes) => buf.copy_from_slice(bytes),
            None if buf.is_empty() => {}
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.host.lock().ask(Operation::Write { inode: self.inode, offset, bytes: buf.to_vec() })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.host.lock().ask(Operation::SetLen { inode: self.inode, len })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.host.lock().ask(Operation::Allocate { inode: self.inode, len })
    }

    fn sync(&self) -> io::Result<()> {
        self.host.lock().ask(Operation::Sync { inode: self.inode })
    }

    fn lock(&self, _access: Access) -> io::Result<LockOutcome> {
        Ok(LockOutcome::Held)
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(())
    }
}
