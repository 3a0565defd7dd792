//! Every initramfs holds the drivers, and everything that they need, for its kernel.

use cloudspec::RuleSpec;
use guest::{Bus, Guest, InitramfsInfo, TreeModules};
use initramfs::{
    Archive, Injection, InjectionOptions, KernelModules, Limits, WantedReport, plan_injection,
    rewrite_last_segment,
};
use vfs::{GuestPath, GuestTree};

use super::path;
use crate::plan::Context;
use crate::{Action, Edit, Finding, FixError, Stage, State};

/// The largest initramfs that is read; distributions' largest stay below 200 MiB.
const INITRAMFS_MAX: u64 = 256 << 20;

/// What is to be in every initramfs.
struct Request<'a> {
    rule: &'a str,
    /// Modules to add, with all that they need.
    modules: &'a [String],
    /// Those without which the request has failed.
    needed: &'a [String],
}

/// What became of all initramfs files.
#[derive(Default)]
struct Outcome {
    changes: Vec<String>,
    remarks: Vec<String>,
    obstacles: Vec<String>,
    looked_at: usize,
}

/// A planned injection into every initramfs.
#[derive(Debug, Default)]
pub struct InjectionPlan {
    /// One for each file that changes.
    pub edits: Vec<Edit>,
    /// What stands in the way, a line each: not all that was asked for can be done.
    pub obstacles: Vec<String>,
    /// What should be known beside, a line each.
    pub remarks: Vec<String>,
}

/// Plans the injection of `modules` into the initramfs of every kernel.
pub fn inject_modules(
    tree: &GuestTree,
    guest: &Guest,
    modules: &[String],
) -> Result<InjectionPlan, FixError> {
    let mut stage = Stage::new(tree);
    let request = Request { rule: "initramfs.inject", modules, needed: modules };
    let Outcome { remarks, obstacles, .. } = inject(&request, guest, &mut stage)?;
    let (edits, _) = stage.into_edits();
    Ok(InjectionPlan { edits, obstacles, remarks })
}

pub(super) fn run(
    spec: &RuleSpec,
    modules: &[String],
    buses: &[String],
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let mut needed: Vec<String> = Vec::new();
    for name in buses {
        let bus = Bus::from_name(name)
            .ok_or_else(|| FixError::UnknownBus { rule: spec.id.clone(), bus: name.clone() })?;
        needed.extend(bus.drivers().iter().map(|driver| (*driver).to_owned()));
    }
    // What a bus needs is wanted, whether the profile lists it or not.
    let mut wanted = modules.to_vec();
    wanted.extend(needed.iter().filter(|driver| !is_among(driver, modules)).cloned());
    wanted.dedup();
    let request = Request { rule: &spec.id, modules: &wanted, needed: &needed };
    let outcome = inject(&request, context.guest, stage)?;
    if !outcome.obstacles.is_empty() {
        let evidence = outcome.obstacles.into_iter().chain(outcome.changes).chain(outcome.remarks).collect();
        let finding = Finding::new(spec, State::NotFixable, evidence);
        return Ok(finding
            .with_remedy("Rebuild that initramfs in the guest with these drivers, or remove the kernel."));
    }
    if !outcome.changes.is_empty() {
        return Ok(Finding::new(
            spec,
            State::Fixable,
            outcome.changes.into_iter().chain(outcome.remarks).collect(),
        ));
    }
    if outcome.looked_at == 0 {
        let evidence =
            std::iter::once("the guest has no initramfs".to_owned()).chain(outcome.remarks).collect();
        return Ok(Finding::new(spec, State::NotApplicable, evidence));
    }
    let holds = std::iter::once("every initramfs has every driver".to_owned());
    Ok(Finding::new(spec, State::Holds, holds.chain(outcome.remarks).collect()))
}

fn inject(request: &Request<'_>, guest: &Guest, stage: &mut Stage<'_>) -> Result<Outcome, FixError> {
    let mut outcome = Outcome::default();
    for initramfs in guest.initramfs.iter().filter(|initramfs| !initramfs.is_kdump) {
        if let Some(error) = &initramfs.error {
            outcome.obstacles.push(format!("{}: {} [{}]", initramfs.path, error.message, error.code));
            continue;
        }
        let kernel = initramfs
            .kernel
            .as_ref()
            .and_then(|version| guest.kernels.iter().find(|kernel| kernel.version == *version));
        let Some((kernel, directory)) =
            kernel.and_then(|kernel| Some((kernel, kernel.module_directory.as_ref()?)))
        else {
            let line = format!("{}: its kernel has no modules on disk", initramfs.path);
            let boots_it = guest.boot_entries.first().is_some_and(|entry| {
                entry.initrds.iter().any(|file| file.path.as_deref() == Some(&initramfs.path))
            });
            if boots_it {
                outcome.obstacles.push(line)
            } else {
                outcome.remarks.push(line)
            }
            continue;
        };
        outcome.looked_at += 1;
        let source = TreeModules::new(stage.tree(), path(directory));
        inject_one(request, initramfs, &kernel.version, &source, stage, &mut outcome)?;
    }
    Ok(outcome)
}

fn inject_one(
    request: &Request<'_>,
    initramfs: &InitramfsInfo,
    version: &str,
    source: &TreeModules<'_>,
    stage: &mut Stage<'_>,
    outcome: &mut Outcome,
) -> Result<(), FixError> {
    let file = path(&initramfs.path);
    let name = &initramfs.path;
    let fail = |source| FixError::Initramfs { path: name.clone(), source };
    let original = stage.tree().read(&file, INITRAMFS_MAX)?;
    let limits = Limits::default();
    let archive = Archive::parse(&original, &limits).map_err(fail)?;
    let kernel = KernelModules::load(version, source).map_err(fail)?;
    let options = InjectionOptions { limits, ..InjectionOptions::default() };
    let planned = match plan_injection(&original, &archive, &kernel, source, request.modules, &options) {
        Ok(planned) => planned,
        // Refused by name: the other kernels may still be served.
        Err(error) if report::Diagnose::class(&error) == report::Class::Unsupported => {
            outcome.obstacles.push(format!("{name}: {error} [{}]", report::Diagnose::code(&error)));
            return Ok(());
        }
        Err(error) => return Err(fail(error)),
    };
    let append = match planned {
        Injection::Nothing(report) => {
            note_limits(name, &report, request.needed, outcome);
            return Ok(());
        }
        Injection::Append(append) => append,
    };
    note_limits(name, &append.report, request.needed, outcome);
    let room = Room::of(stage, &file, original.len() as u64)?;
    let old_len = original.len() as u64;
    let added: Vec<&str> = append.added.iter().map(|module| module.name.as_str()).collect();
    let what = if added.is_empty() { "module indexes".to_owned() } else { added.join(" ") };
    let append_len = old_len + append.bytes.len() as u64;
    let mut rewrite_len = None;
    let mut summary =
        format!("{name}: {what} in a segment of {} bytes ({})", append.bytes.len(), append.compression);
    let action = if append.hazard.is_none() && room.fits(append_len) {
        Action::Append { old_len, bytes: append.bytes.clone() }
    } else {
        let new = rewrite_last_segment(&original, &archive, &append, &limits).map_err(fail)?;
        rewrite_len = Some(new.len() as u64);
        let why = append.hazard.as_deref().unwrap_or("a segment behind it has no room");
        summary = format!("{name}: {what}, the last segment packed anew in {} bytes: {why}", new.len());
        Action::Rewrite { old_len, new }
    };
    if let Some(rewrite_len) = rewrite_len
        && !room.fits(rewrite_len)
    {
        return Err(FixError::NoRoomForInitramfs {
            path: name.clone(),
            append_bytes: room.more(append_len),
            rewrite_bytes: room.more(rewrite_len),
            free_bytes: room.free,
            filesystem: room.filesystem,
        });
    }
    stage.change_large(request.rule, &file, action, vec![summary.clone()])?;
    outcome.changes.push(summary);
    Ok(())
}

/// What injection cannot change: names that this kernel does not have, and modules that the image forbids.
fn note_limits(name: &str, report: &WantedReport, needed: &[String], outcome: &mut Outcome) {
    for module in &report.missing {
        let line = format!("{name}: its kernel has no {module}, neither built in nor as a module");
        if is_among(module, needed) { outcome.obstacles.push(line) } else { outcome.remarks.push(line) }
    }
    for (module, place) in &report.blacklisted {
        let line = format!("{name}: {module} is blacklisted inside, by {place}");
        if is_among(module, needed) { outcome.obstacles.push(line) } else { outcome.remarks.push(line) }
    }
}

/// Module names are compared with `-` and `_` alike.
fn is_among(module: &str, names: &[String]) -> bool {
    names.iter().any(|name| name.replace('-', "_") == module.replace('-', "_"))
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
