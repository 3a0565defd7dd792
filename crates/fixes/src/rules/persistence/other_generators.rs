//! mkinitcpio, Alpine's mkinitfs, booster and SUSE's old mkinitrd: each is told in the place that it reads itself.

use boot::{DefaultGrub, Edit, EffectiveValue, SourceFile};
use cloudspec::RuleSpec;

use super::super::path;
use super::{Kept, missing, normalized};
use crate::{FixError, Stage};

/// A generator and where it is told.
pub(super) enum Generator {
    /// `/etc/mkinitcpio.conf` and, since version 36, its directory (mkinitcpio.conf(5)).
    Mkinitcpio,
    /// Features of `/etc/mkinitfs/mkinitfs.conf`, each a list of files below the module directory.
    Mkinitfs,
    /// `modules` of `/etc/booster.yaml`.
    Booster,
    /// `INITRD_MODULES` of `/etc/sysconfig/kernel` (mkinitrd(8) of SUSE Linux Enterprise 11).
    SuseMkinitrd,
    /// Red Hat's old mkinitrd has no list of its own.
    Mkinitrd,
}

pub(super) const ALL: [Generator; 5] = [
    Generator::Mkinitcpio,
    Generator::Mkinitfs,
    Generator::Booster,
    Generator::SuseMkinitrd,
    Generator::Mkinitrd,
];

const MKINITCPIO: &str = "/usr/bin/mkinitcpio";
const MKINITCPIO_CONF: &str = "/etc/mkinitcpio.conf";
const MKINITCPIO_DIRECTORY: &str = "/etc/mkinitcpio.conf.d";
const MKINITCPIO_DROP_IN: &str = "/etc/mkinitcpio.conf.d/90-coldfit.conf";
const MKINITFS: &str = "/sbin/mkinitfs";
const MKINITFS_CONF: &str = "/etc/mkinitfs/mkinitfs.conf";
const MKINITFS_FEATURE: &str = "/etc/mkinitfs/features.d/coldfit.modules";
/// Name of that feature.
const FEATURE: &str = "coldfit";
const BOOSTER: &str = "/usr/bin/booster";
const BOOSTER_CONF: &str = "/etc/booster.yaml";
const MKINITRD: &str = "/sbin/mkinitrd";
const SYSCONFIG_KERNEL: &str = "/etc/sysconfig/kernel";
const INITRD_MODULES: &str = "INITRD_MODULES";

impl Generator {
    pub(super) fn keep(
        &self,
        spec: &RuleSpec,
        modules: &[String],
        stage: &mut Stage<'_>,
    ) -> Result<Kept, FixError> {
        let has = |file: &str| stage.tree().exists(&path(file));
        match self {
            Generator::Mkinitcpio if has(MKINITCPIO)? => mkinitcpio(spec, modules, stage),
            Generator::Mkinitfs if has(MKINITFS)? => mkinitfs(spec, modules, stage),
            Generator::Booster if has(BOOSTER)? => booster(spec, modules, stage),
            Generator::SuseMkinitrd if has(MKINITRD)? && has(SYSCONFIG_KERNEL)? => suse(spec, modules, stage),
            Generator::Mkinitrd if has(MKINITRD)? && !has(SYSCONFIG_KERNEL)? => Ok(Kept::Obstacle(format!(
                "the guest makes its initramfs with {MKINITRD}, which takes storage drivers from modprobe.conf"
            ))),
            _ => Ok(Kept::NotInstalled),
        }
    }
}

fn text_of(stage: &Stage<'_>, file: &str) -> Result<Option<String>, FixError> {
    Ok(stage.read(&path(file))?.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

fn with_newline(text: &mut String) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

/// Words of all `MODULES=` and `MODULES+=` assignments; bash arrays may run over several lines.
fn mkinitcpio_modules(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut end: Option<char> = None;
    for line in super::code_lines(text) {
        let mut rest = line.trim();
        if end.is_none() {
            let value = rest.strip_prefix("MODULES+=").or_else(|| rest.strip_prefix("MODULES="));
            let Some(value) = value else { continue };
            (rest, end) = match value.chars().next() {
                Some('(') => (&value[1..], Some(')')),
                Some(quote @ ('"' | '\'')) => (&value[1..], Some(quote)),
                _ => (value, Some(' ')),
            };
        }
        let Some(stop) = end else { continue };
        let (value, is_over) = match rest.split_once(stop) {
            Some((value, _)) => (value, true),
            None => (rest, stop == ' '),
        };
        let plain = |word: &str| normalized(word.trim_matches(['"', '\'']).trim_end_matches('?'));
        words.extend(value.split_whitespace().map(plain));
        if is_over {
            end = None;
        }
    }
    words
}

fn mkinitcpio(spec: &RuleSpec, modules: &[String], stage: &mut Stage<'_>) -> Result<Kept, FixError> {
    let mut named = mkinitcpio_modules(&text_of(stage, MKINITCPIO_CONF)?.unwrap_or_default());
    // The script names the directory where it reads it.
    let program = stage.read(&path(MKINITCPIO))?.unwrap_or_default();
    let reads_directory = program.windows(9).any(|window| window == b"_d_config");
    let file = if reads_directory { MKINITCPIO_DROP_IN } else { MKINITCPIO_CONF };
    if reads_directory {
        for name in stage.list(&path(MKINITCPIO_DIRECTORY))?.iter().filter(|name| name.ends_with(b".conf")) {
            let drop_in = path(MKINITCPIO_DIRECTORY).join(name).to_string();
            named.extend(mkinitcpio_modules(&text_of(stage, &drop_in)?.unwrap_or_default()));
        }
    }
    let add = missing(modules, &named).join(" ");
    if add.is_empty() {
        return Ok(Kept::Holds(format!("{MKINITCPIO_CONF} names every module")));
    }
    let mut text = text_of(stage, file)?.unwrap_or_default();
    with_newline(&mut text);
    // A string in the place of the array would become its first element as a whole.
    let is_string = text_of(stage, MKINITCPIO_CONF)?
        .unwrap_or_default()
        .lines()
        .any(|line| line.trim().strip_prefix("MODULES=").is_some_and(|value| !value.starts_with('(')));
    text.push_str(&match is_string {
        true => format!("MODULES=\"$MODULES {add}\"\n"),
        false => format!("MODULES+=({add})\n"),
    });
    let change = format!("{file}: MODULES names {add}");
    stage.write(&spec.id, &path(file), text.into_bytes(), vec![change.clone()])?;
    Ok(Kept::Change(change))
}

/// Paths below the module directory, a pattern each, of the modules that any kernel has as files.
fn module_patterns(stage: &Stage<'_>, modules: &[String]) -> Result<Vec<String>, FixError> {
    let mut patterns = Vec::new();
    let directory = path("/lib/modules");
    if !stage.tree().exists(&directory)? {
        return Ok(patterns);
    }
    for version in stage.list(&directory)? {
        let Some(index) = stage.read(&directory.join(&version).join("modules.dep"))? else { continue };
        for line in String::from_utf8_lossy(&index).lines() {
            let file = line.split(':').next().unwrap_or_default();
            let Some(stem) = file.split_once(".ko").map(|(stem, _)| stem) else { continue };
            let name = normalized(stem.rsplit('/').next().unwrap_or_default());
            let pattern = format!("{stem}.ko*");
            if modules.iter().any(|module| normalized(module) == name) && !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
    }
    patterns.sort();
    Ok(patterns)
}

fn mkinitfs(spec: &RuleSpec, modules: &[String], stage: &mut Stage<'_>) -> Result<Kept, FixError> {
    let patterns = module_patterns(stage, modules)?;
    if patterns.is_empty() {
        return Ok(Kept::Holds("every kernel has the drivers built in, or none of them".into()));
    }
    let Some(text) = stage.read(&path(MKINITFS_CONF))? else {
        return Ok(Kept::Obstacle(format!("{MKINITFS_CONF}, which names the features, is not there")));
    };
    let mut changes = Vec::new();
    let feature = text_of(stage, MKINITFS_FEATURE)?.unwrap_or_default();
    let add: Vec<&String> =
        patterns.iter().filter(|pattern| !feature.lines().any(|line| line == **pattern)).collect();
    if !add.is_empty() {
        let mut feature = feature;
        with_newline(&mut feature);
        add.iter().for_each(|pattern| feature.push_str(&format!("{pattern}\n")));
        let change = format!("{MKINITFS_FEATURE}: {} files of modules", add.len());
        stage.write(&spec.id, &path(MKINITFS_FEATURE), feature.into_bytes(), vec![change.clone()])?;
        changes.push(change);
    }
    match add_words(text, MKINITFS_CONF, "features", &[FEATURE])? {
        Words::There => {}
        Words::Added(text) => {
            let change = format!("{MKINITFS_CONF}: features names {FEATURE}");
            stage.write(&spec.id, &path(MKINITFS_CONF), text, vec![change.clone()])?;
            changes.push(change);
        }
        Words::Obstacle(why) => return Ok(Kept::Obstacle(why)),
    }
    Ok(match changes.is_empty() {
        true => Kept::Holds(format!("{MKINITFS_CONF} has a feature with every module")),
        false => Kept::Change(changes.join("; ")),
    })
}

fn booster(spec: &RuleSpec, modules: &[String], stage: &mut Stage<'_>) -> Result<Kept, FixError> {
    let mut text = text_of(stage, BOOSTER_CONF)?.unwrap_or_default();
    let is_list = |line: &&str| line.starts_with("modules:");
    let line = text.lines().find(is_list).map(str::to_owned);
    let value = line.as_deref().map(|line| line["modules:".len()..].trim()).unwrap_or_default();
    let plain = value.split(" #").next().unwrap_or_default().trim();
    if text.lines().filter(is_list).count() > 1
        || plain.starts_with(['[', '{', '|', '>', '"', '\'', '&', '*'])
    {
        return Ok(Kept::Obstacle(format!("{BOOSTER_CONF}: modules is not a plain list on one line")));
    }
    let named: Vec<String> = plain.split(',').map(|name| normalized(name.trim())).collect();
    let add = missing(modules, &named).join(",");
    if add.is_empty() {
        return Ok(Kept::Holds(format!("{BOOSTER_CONF} names every module")));
    }
    match &line {
        Some(line) if plain.is_empty() => text = text.replacen(line.as_str(), &format!("modules: {add}"), 1),
        Some(line) => {
            let end = line.find(plain).map_or(line.len(), |at| at + plain.len());
            let edited = format!("{},{add}{}", &line[..end], &line[end..]);
            text = text.replacen(line.as_str(), &edited, 1);
        }
        None => {
            with_newline(&mut text);
            text.push_str(&format!("modules: {add}\n"));
        }
    }
    let change = format!("{BOOSTER_CONF}: modules names {add}");
    stage.write(&spec.id, &path(BOOSTER_CONF), text.into_bytes(), vec![change.clone()])?;
    Ok(Kept::Change(change))
}

fn suse(spec: &RuleSpec, modules: &[String], stage: &mut Stage<'_>) -> Result<Kept, FixError> {
    let text = stage.read(&path(SYSCONFIG_KERNEL))?.unwrap_or_default();
    let names: Vec<&str> = modules.iter().map(String::as_str).collect();
    match add_words(text, SYSCONFIG_KERNEL, INITRD_MODULES, &names)? {
        Words::There => Ok(Kept::Holds(format!("{SYSCONFIG_KERNEL}: {INITRD_MODULES} names every module"))),
        Words::Added(text) => {
            let change = format!("{SYSCONFIG_KERNEL}: {INITRD_MODULES} names every module");
            stage.write(&spec.id, &path(SYSCONFIG_KERNEL), text, vec![change.clone()])?;
            Ok(Kept::Change(change))
        }
        Words::Obstacle(why) => Ok(Kept::Obstacle(why)),
    }
}

enum Words {
    There,
    Added(Vec<u8>),
    Obstacle(String),
}

/// Adds words to a variable of a shell file that lists them.
fn add_words(text: Vec<u8>, file: &str, variable: &str, wanted: &[&str]) -> Result<Words, FixError> {
    let source = SourceFile { path: file.to_owned(), text };
    let mut parsed = match DefaultGrub::parse(vec![source]) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(Words::Obstacle(format!("{file}: {error}"))),
    };
    if let EffectiveValue::NeedsShell { place } = parsed.value(variable) {
        return Ok(Words::Obstacle(format!("{file}: only a shell can tell what {variable} is ({place})")));
    }
    let edited = parsed.edit(variable, |line| {
        let named: Vec<String> = line.arguments().map(|argument| normalized(&argument.key)).collect();
        let add = wanted.iter().filter(|word| !named.contains(&normalized(word)));
        add.into_iter().try_for_each(|word| line.append(word, None))
    });
    Ok(match edited {
        Ok(Edit::Unchanged) => Words::There,
        Ok(Edit::Changed { file }) => Words::Added(parsed.files()[file].text.clone()),
        Ok(Edit::DropIn { reason, .. }) => Words::Obstacle(format!("{file}: {variable}: {reason}")),
        Err(error) => Words::Obstacle(format!("{file}: {variable}: {error}")),
    })
}
