//! One planned change for each initramfs, whichever rules ask for it.
//!
//! A file gets at most one new segment: a rule says what it wants, and when all rules have spoken the segment is made
//! once, from the file as it is on the disk.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use guest::{Guest, InitramfsInfo, Kernel, TreeModules};
use initramfs::{
    Archive, Injection, InjectionOptions, KernelModules, Limits, WantedReport, plan_injection,
    rewrite_last_segment, survey_injection,
};
use vfs::GuestPath;

use crate::{Action, FixError, Stage};

/// The largest initramfs that is read; distributions' largest stay below 200 MiB.
const INITRAMFS_MAX: u64 = 256 << 20;
/// Files inside one initramfs that a rule edits.
const INSIDE_MAX: usize = 256;
/// Detached signatures: GRUB's with `check_signatures=enforce` (GRUB manual, "Using digital signatures in GRUB"),
/// others by convention.
const SIGNATURES: [&str; 3] = [".sig", ".asc", ".p7s"];
/// Bytes of files and their unpacked content that are kept from rule to rule.
const KEPT_MAX: u64 = 128 << 20;

/// All that rules have asked of the guest's initramfs files so far.
#[derive(Default)]
pub(crate) struct Injections {
    /// By real path.
    wanted: BTreeMap<GuestPath, Wanted>,
    /// Files that were parsed lately, the oldest first.
    parsed: VecDeque<(GuestPath, Rc<Parsed>)>,
}

/// What one initramfs is to get.
#[derive(Debug, Clone)]
struct Wanted {
    /// Rules that asked, with what each added.
    rules: Vec<(String, String)>,
    /// Its path as inspection has it.
    path: String,
    /// Version of its kernel.
    version: String,
    /// Its kernel's module directory.
    directory: String,
    modules: Vec<String>,
    files: BTreeMap<String, Vec<u8>>,
}

/// An initramfs with the modules of its kernel.
pub(crate) struct Parsed {
    original: Vec<u8>,
    /// Everything inside.
    pub archive: Archive,
    kernel: KernelModules,
}

impl Parsed {
    fn weight(&self) -> u64 {
        let unpacked: u64 = self.archive.segments().iter().map(|segment| segment.unpacked_len).sum();
        self.original.len() as u64 + unpacked
    }
}

/// What a rule asks of one initramfs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// Id of the rule.
    pub rule: String,
    /// Modules to add, with all that they need.
    pub modules: Vec<String>,
    /// Files to add or replace, by path inside.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// What became of it.
pub(crate) enum Answer {
    /// The file has it all.
    Nothing(WantedReport),
    /// The plan brings it in.
    Planned {
        /// One line for people.
        summary: String,
        /// The outcome for each module.
        report: WantedReport,
    },
    /// The form of this file is refused, by name.
    Refused(String),
}

/// An initramfs that a rule may ask something of, with its kernel.
pub(crate) struct Target<'g> {
    /// What inspection found.
    pub info: &'g InitramfsInfo,
    /// Kernel that it is for.
    pub kernel: &'g Kernel,
    /// Its module directory.
    pub directory: &'g str,
}

/// Why an initramfs is no target.
pub(crate) enum NoTarget {
    /// It cannot be read, or the guest boots from it and its kernel has no modules.
    Obstacle(String),
    /// Its kernel has no modules, and the guest does not boot from it by default.
    Remark(String),
}

/// Every initramfs but those of crash kernels.
pub(crate) fn targets(guest: &Guest) -> impl Iterator<Item = Result<Target<'_>, NoTarget>> {
    guest.initramfs.iter().filter(|info| !info.is_kdump).map(move |info| {
        if let Some(error) = &info.error {
            return Err(NoTarget::Obstacle(format!("{}: {} [{}]", info.path, error.message, error.code)));
        }
        let kernel = info
            .kernel
            .as_ref()
            .and_then(|version| guest.kernels.iter().find(|kernel| kernel.version == *version));
        let found = kernel.and_then(|kernel| Some((kernel, kernel.module_directory.as_deref()?)));
        if let Some((kernel, directory)) = found {
            return Ok(Target { info, kernel, directory });
        }
        let line = format!("{}: its kernel has no modules on disk", info.path);
        let boots_it = guest
            .boot_entries
            .first()
            .is_some_and(|entry| entry.initrds.iter().any(|file| file.path.as_deref() == Some(&info.path)));
        Err(if boots_it { NoTarget::Obstacle(line) } else { NoTarget::Remark(line) })
    })
}

impl Stage<'_> {
    /// The content of a target, parsed.
    fn parsed(&mut self, target: &Target<'_>) -> Result<Rc<Parsed>, FixError> {
        let file = GuestPath::root().join(&target.info.path);
        self.parse(&file, &target.info.path, &target.kernel.version, target.directory)
    }

    fn parse(
        &mut self,
        file: &GuestPath,
        name: &str,
        version: &str,
        directory: &str,
    ) -> Result<Rc<Parsed>, FixError> {
        if let Some((_, parsed)) = self.injections.parsed.iter().find(|(path, _)| path == file) {
            return Ok(Rc::clone(parsed));
        }
        let fail = |source| FixError::Initramfs { path: name.to_owned(), source };
        let original = self.tree().read(file, INITRAMFS_MAX)?;
        let archive = Archive::parse(&original, &Limits::default()).map_err(fail)?;
        let modules = TreeModules::new(self.tree(), GuestPath::root().join(directory));
        let kernel = KernelModules::load(version, &modules).map_err(fail)?;
        let parsed = Rc::new(Parsed { original, archive, kernel });
        let kept = &mut self.injections.parsed;
        kept.push_back((file.clone(), Rc::clone(&parsed)));
        while kept.len() > 1 && kept.iter().map(|(_, parsed)| parsed.weight()).sum::<u64>() > KEPT_MAX {
            kept.pop_front();
        }
        Ok(parsed)
    }

    /// A file inside a target as the plan leaves it.
    fn file_inside(&mut self, target: &Target<'_>, path: &str) -> Result<Option<Vec<u8>>, FixError> {
        let file = GuestPath::root().join(&target.info.path);
        if let Some(planned) = self.injections.wanted.get(&file).and_then(|wanted| wanted.files.get(path)) {
            return Ok(Some(planned.clone()));
        }
        Ok(self.parsed(target)?.archive.read_file(path).map(|content| content.to_vec()))
    }

    /// Edits files inside every initramfs: `edit` gives the new content of a candidate, or nothing.
    pub(crate) fn edit_inside(
        &mut self,
        rule: &str,
        guest: &Guest,
        is_candidate: impl Fn(&str) -> bool,
        edit: impl Fn(&str, &[u8]) -> Option<Vec<u8>>,
    ) -> Result<EditedInside, FixError> {
        let mut edited = EditedInside::default();
        for target in targets(guest) {
            let target = match target {
                Ok(target) => target,
                Err(NoTarget::Obstacle(line) | NoTarget::Remark(line)) => {
                    edited.remarks.push(format!("not looked into: {line}"));
                    continue;
                }
            };
            let names: Vec<String> = self
                .parsed(&target)?
                .archive
                .entries()
                .iter()
                .filter(|entry| entry.is_file())
                .filter_map(|entry| String::from_utf8(entry.path.clone()).ok())
                .filter(|inside| is_candidate(inside))
                .take(INSIDE_MAX)
                .collect();
            let mut files = BTreeMap::new();
            for name in names {
                let Some(content) = self.file_inside(&target, &name)? else { continue };
                if let Some(new) = edit(&name, &content) {
                    files.insert(name, new);
                }
            }
            if files.is_empty() {
                continue;
            }
            let asked = Asked { rule: rule.to_owned(), modules: Vec::new(), files };
            match self.inject(&target, &asked)? {
                Answer::Nothing(_) => {}
                Answer::Planned { summary, .. } => edited.changes.push(summary),
                Answer::Refused(line) => edited.obstacles.push(line),
            }
        }
        Ok(edited)
    }

    /// Notes what a rule asks of one initramfs; [`Stage::finish_injections`] plans it.
    pub(crate) fn inject(&mut self, target: &Target<'_>, asked: &Asked) -> Result<Answer, FixError> {
        let name = &target.info.path;
        for suffix in SIGNATURES {
            let signature = format!("{name}{suffix}");
            if self.tree().exists(&GuestPath::root().join(&signature))? {
                return Ok(Answer::Refused(format!(
                    "{name}: {signature} signs it, and no longer would [initramfs.signed]"
                )));
            }
        }
        let parsed = self.parsed(target)?;
        let survey = match survey_injection(&parsed.archive, &parsed.kernel, &asked.modules, &asked.files) {
            Ok(survey) => survey,
            // Refused by name: the other kernels may still be served.
            Err(error) if report::Diagnose::class(&error) == report::Class::Unsupported => {
                return Ok(Answer::Refused(format!("{name}: {error} [{}]", report::Diagnose::code(&error))));
            }
            Err(source) => return Err(FixError::Initramfs { path: name.clone(), source }),
        };
        let only_indexes = survey.absent.is_empty() && survey.changed_files.is_empty();
        // Indexes that do not find a module may be the ones that belong there; only making them tells.
        if survey.is_complete() || (only_indexes && self.has_right_indexes(target, &parsed, asked)?) {
            return Ok(Answer::Nothing(survey.report));
        }
        let mut what: Vec<String> = survey.absent.into_iter().map(|module| module.name).collect();
        what.extend(survey.changed_files);
        let what = if what.is_empty() { "module indexes".to_owned() } else { what.join(" ") };
        let summary = format!("{name}: {what}");
        let wanted = self.injections.wanted.entry(GuestPath::root().join(name)).or_insert_with(|| Wanted {
            rules: Vec::new(),
            path: name.clone(),
            version: target.kernel.version.clone(),
            directory: target.directory.to_owned(),
            modules: Vec::new(),
            files: BTreeMap::new(),
        });
        wanted.rules.push((asked.rule.clone(), summary.clone()));
        for module in &asked.modules {
            if !wanted.modules.contains(module) {
                wanted.modules.push(module.clone());
            }
        }
        wanted.files.extend(asked.files.clone());
        Ok(Answer::Planned { summary, report: survey.report })
    }

    fn has_right_indexes(
        &self,
        target: &Target<'_>,
        parsed: &Parsed,
        asked: &Asked,
    ) -> Result<bool, FixError> {
        let source = TreeModules::new(self.tree(), GuestPath::root().join(target.directory));
        let options = InjectionOptions { limits: Limits::default(), extra_files: asked.files.clone() };
        let planned = plan_injection(
            &parsed.original,
            &parsed.archive,
            &parsed.kernel,
            &source,
            &asked.modules,
            &options,
        );
        match planned {
            Ok(planned) => Ok(matches!(planned, Injection::Nothing(_))),
            Err(source) => Err(FixError::Initramfs { path: target.info.path.clone(), source }),
        }
    }

    /// Plans one change for each initramfs that rules asked something of. What is refused by name comes back, with the
    /// rules that asked for it.
    pub(crate) fn finish_injections(&mut self) -> Result<Vec<RefusedInjection>, FixError> {
        let mut refused = Vec::new();
        for (file, wanted) in std::mem::take(&mut self.injections.wanted) {
            if let Err(error) = self.finish_one(&file, &wanted) {
                if report::Diagnose::class(&error) != report::Class::Unsupported {
                    return Err(error);
                }
                let rules = wanted.rules.into_iter().map(|(rule, _)| rule).collect();
                let line = format!("{error} [{}]", report::Diagnose::code(&error));
                refused.push(RefusedInjection { rules, line });
            }
        }
        self.injections.parsed.clear();
        Ok(refused)
    }

    fn finish_one(&mut self, file: &GuestPath, wanted: &Wanted) -> Result<(), FixError> {
        let Wanted { path: name, version, directory, .. } = wanted;
        let fail = |source| FixError::Initramfs { path: name.clone(), source };
        let parsed = self.parse(file, name, version, directory)?;
        let source = TreeModules::new(self.tree(), GuestPath::root().join(directory));
        let limits = Limits::default();
        let options = InjectionOptions { limits, extra_files: wanted.files.clone() };
        let planned = plan_injection(
            &parsed.original,
            &parsed.archive,
            &parsed.kernel,
            &source,
            &wanted.modules,
            &options,
        );
        let append = match planned.map_err(fail)? {
            Injection::Append(append) => append,
            Injection::Nothing(_) => return Ok(()),
        };
        let old_len = parsed.original.len() as u64;
        let room = Room::of(self, file, old_len)?;
        let append_len = old_len + append.bytes.len() as u64;
        let (action, how) = if append.hazard.is_none() && room.fits(append_len) {
            let how = format!("a segment of {} bytes ({})", append.bytes.len(), append.compression);
            (Action::Append { old_len, bytes: append.bytes.clone() }, how)
        } else {
            let new = rewrite_last_segment(&parsed.original, &parsed.archive, &append, &Limits::default())
                .map_err(fail)?;
            if !room.fits(new.len() as u64) {
                return Err(FixError::NoRoomForInitramfs {
                    path: name.clone(),
                    append_bytes: room.more(append_len),
                    rewrite_bytes: room.more(new.len() as u64),
                    free_bytes: room.free,
                    filesystem: room.filesystem,
                });
            }
            let why = append.hazard.as_deref().unwrap_or("a segment behind it has no room");
            let how = format!("the last segment packed anew in {} bytes: {why}", new.len());
            (Action::Rewrite { old_len, new }, how)
        };
        let mut rules = wanted.rules.iter();
        if let Some((rule, summary)) = rules.next() {
            let how = format!("{name}: {how}");
            self.change_large(rule, file, action, vec![how, summary.clone()])?;
        }
        for (rule, summary) in rules {
            self.note(file, rule, summary.clone());
        }
        Ok(())
    }
}

/// What became of an edit inside every initramfs, a line each.
#[derive(Debug, Default)]
pub(crate) struct EditedInside {
    /// What changes.
    pub changes: Vec<String>,
    /// What is refused by name.
    pub obstacles: Vec<String>,
    /// Files that were not looked into, and why.
    pub remarks: Vec<String>,
}

/// An injection that was refused by name.
pub(crate) struct RefusedInjection {
    /// Rules that asked for it.
    pub rules: Vec<String>,
    /// Why.
    pub line: String,
}

/// Room for one file on its filesystem.
struct Room {
    block: u64,
    old_blocks: u64,
    /// Bytes free to everyone, less what edits planned earlier take.
    free: u64,
    filesystem: String,
}

impl Room {
    fn of(stage: &Stage<'_>, file: &GuestPath, old_len: u64) -> Result<Self, FixError> {
        let location = stage.tree().resolve(file)?;
        let mount = &stage.tree().mounts()[location.mount];
        let block = u64::from(mount.filesystem.info().block_size).max(1);
        let free = mount.filesystem.space()?.available_bytes.saturating_sub(stage.growth(location.mount)?);
        // A longer file may need blocks for its map, and text files that later rules make need one each.
        let free = free.saturating_sub(16 * block);
        Ok(Self { block, old_blocks: old_len.div_ceil(block), free, filesystem: mount.at.to_string() })
    }

    /// Bytes, in whole blocks, that a file of this length takes beyond its old ones.
    fn more(&self, len: u64) -> u64 {
        len.div_ceil(self.block).saturating_sub(self.old_blocks) * self.block
    }

    fn fits(&self, len: u64) -> bool {
        self.more(len) <= self.free
    }
}
