//! cloud-init runs and finds its data source.

use cloudspec::RuleSpec;
use config::Files;
use config::cloud_init::{
    CloudConfig, DROP_INS, MAIN, Mapping, Part, Value, comment_out, comment_out_line, covers, parse,
};
use config::units::{UnitChange, Units};
use guest::{Program, find_program};

use super::arguments::{self, Outcome};
use super::path;
use crate::plan::Context;
use crate::{Finding, FixError, Stage, State};

/// Its presence alone turns cloud-init off (cloud-init's systemd generator).
const DISABLED: &str = "/etc/cloud/cloud-init.disabled";
/// What `ds-identify` is told: `policy: …` and `datasource: …`.
const IDENTIFY: &str = "/etc/cloud/ds-identify.cfg";
/// What Ubuntu's installers leave behind, with the only settings that each of them has: they tie cloud-init to
/// the data that the installer had, or keep it off the network.
const LEFTOVERS: [(&str, &[&str]); 2] = [
    ("99-installer.cfg", &["datasource", "datasource_list"]),
    ("subiquity-disable-cloudinit-networking.cfg", &["network"]),
];
/// Services and targets of all versions; 24.3 renamed two of them.
const UNITS: [&str; 8] = [
    "cloud-init-local.service",
    "cloud-init.service",
    "cloud-init-main.service",
    "cloud-init-network.service",
    "cloud-config.service",
    "cloud-final.service",
    "cloud-config.target",
    "cloud-init.target",
];

/// What the profile demands.
pub(super) struct Demand<'a> {
    pub datasources: &'a [String],
    pub drop_in: &'a str,
    pub content: &'a str,
    pub ssh_pwauth: &'a str,
}

/// The plan of one rule on its way.
struct Work<'s, 't> {
    rule: &'s str,
    stage: &'s mut Stage<'t>,
    changes: Vec<String>,
    obstacles: Vec<String>,
}

pub(super) fn run(
    spec: &RuleSpec,
    demand: &Demand<'_>,
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    // Configuration that a removed package left behind says nothing.
    if find_program(stage.tree(), Program::CloudInit)?.is_none() {
        return Ok(Finding::not_applicable(spec, "cloud-init is not installed"));
    }
    let recipe = recipe(demand);
    let (_, wanted) = match parse(recipe.as_bytes()) {
        Ok(parsed) => parsed,
        Err(detail) => return Ok(Finding::new(spec, State::NotFixable, vec![format!("the recipe{detail}")])),
    };
    let mut work = Work { rule: &spec.id, stage, changes: Vec::new(), obstacles: Vec::new() };
    work.remove_switches(demand)?;
    work.unmask()?;
    work.kernel_arguments(context)?;
    work.remove_leftovers()?;
    work.settings(demand, &recipe, &wanted)?;
    let holds =
        format!("datasource_list is [{}], and nothing disables cloud-init", demand.datasources.join(", "));
    Ok(Finding::of_changes(spec, work.changes, work.obstacles, holds))
}

/// The profile's recipe, with the login policy that the SSH server has.
fn recipe(demand: &Demand<'_>) -> String {
    let mut text = demand.content.to_owned();
    if matches!(demand.ssh_pwauth, "true" | "false") {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("ssh_pwauth: {}\n", demand.ssh_pwauth));
    }
    text
}

impl Work<'_, '_> {
    fn remove(&mut self, file: &str, why: &str) -> Result<(), FixError> {
        let change = format!("{file}: removed ({why})");
        self.stage.remove(self.rule, &path(file), vec![change.clone()])?;
        self.changes.push(change);
        Ok(())
    }

    fn write(&mut self, file: &str, text: String, change: String) -> Result<(), FixError> {
        self.stage.write(self.rule, &path(file), text.into_bytes(), vec![change.clone()])?;
        self.changes.push(change);
        Ok(())
    }

    /// The file that disables it, and the lines of `ds-identify.cfg` that do.
    fn remove_switches(&mut self, demand: &Demand<'_>) -> Result<(), FixError> {
        if self.stage.has(DISABLED)? {
            self.remove(DISABLED, "its presence disables cloud-init")?;
        }
        let Some(text) = self.stage.text(IDENTIFY)? else { return Ok(()) };
        let disables = |line: &str| {
            let Some((key, value)) = line.split('#').next().unwrap_or_default().split_once(':') else {
                return false;
            };
            let value = value.trim().trim_matches(['"', '\'']);
            match key.trim() {
                "policy" => value.split(',').any(|word| word.trim() == "disabled"),
                "datasource" => !demand.datasources.iter().any(|wanted| wanted == value),
                _ => false,
            }
        };
        let lines: Vec<String> =
            text.lines().filter(|line| disables(line)).map(|line| line.trim().to_owned()).collect();
        if let Some(new) = comment_out_line(&text, disables) {
            let change = format!("{IDENTIFY}: {} made a comment", lines.join(", "));
            self.write(IDENTIFY, new, change)?;
        }
        Ok(())
    }

    /// A masked service does not start, whatever else is right. Enabling is another rule's.
    fn unmask(&mut self) -> Result<(), FixError> {
        for unit in UNITS {
            let changes = {
                let units = Units::new(&*self.stage)?;
                match units.find(unit)? {
                    Some(found) if found.is_masked => units.unmask(unit)?,
                    _ => continue,
                }
            };
            for change in changes {
                match change {
                    UnitChange::Remove { path: file } => self.remove(&file, "it masks the unit")?,
                    UnitChange::Link { path: file, target } => {
                        let line = format!("{file}: link to {target}");
                        self.stage.link(self.rule, &path(&file), target, vec![line.clone()])?;
                        self.changes.push(line);
                    }
                }
            }
        }
        Ok(())
    }

    /// `cloud-init=disabled`, in the boot entries and in what the next ones are made from.
    fn kernel_arguments(&mut self, context: &Context<'_>) -> Result<(), FixError> {
        const KEY: &str = "cloud-init";
        const VALUE: &str = "disabled";
        let argument = format!("{KEY}={VALUE}");
        let mut outcome = Outcome::everywhere(context);
        let is_used = context.guest.boot_entries.iter().any(|entry| entry.arguments.contains(&argument));
        arguments::edit_entries(self.rule, self.stage, &mut outcome, |entry| {
            Ok(match entry.arguments.remove_value(KEY, VALUE) {
                0 => Vec::new(),
                _ => vec![format!("{argument} removed")],
            })
        })?;
        for variable in ["GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"] {
            let is_set = arguments::defaults(self.stage, &mut outcome)?
                .and_then(|defaults| defaults.command_line(variable))
                .is_some_and(|line| line.values(KEY).iter().any(|value| value == VALUE));
            if is_set {
                arguments::edit_defaults(self.rule, self.stage, &mut outcome, variable, |line| {
                    line.remove_value(KEY, VALUE);
                    Ok(())
                })?;
            }
        }
        if is_used && outcome.changes.is_empty() && outcome.obstacles.is_empty() {
            outcome.obstacles.push(format!("{argument} stands in a boot entry that is not edited"));
        }
        self.changes.append(&mut outcome.changes);
        // A boot loader's file that cannot be read is the boot rules' matter where the argument is not used.
        if is_used {
            self.obstacles.append(&mut outcome.obstacles);
        }
        Ok(())
    }

    fn remove_leftovers(&mut self) -> Result<(), FixError> {
        for (name, keys) in LEFTOVERS {
            let file = format!("{DROP_INS}/{name}");
            let Some(content) = self.stage.read(&path(&file))? else { continue };
            let Ok((_, values)) = parse(&content) else { continue };
            let is_only = |values: &Mapping| {
                values.keys().all(|key| key.as_str().is_some_and(|key| keys.contains(&key)))
            };
            if !values.is_empty() && is_only(&values) {
                self.remove(&file, "left behind by the installer")?;
            }
        }
        Ok(())
    }

    /// The recipe is in force: written to its own file when it is not, and what later files say against it made
    /// comments.
    fn settings(&mut self, demand: &Demand<'_>, recipe: &str, wanted: &Mapping) -> Result<(), FixError> {
        let config = CloudConfig::read(&*self.stage)?;
        if !config.problems.is_empty() {
            self.obstacles.extend(config.problems);
            return Ok(());
        }
        if is_met(&config, wanted, demand.datasources) {
            return Ok(());
        }
        let own = format!("{DROP_INS}/{}", demand.drop_in);
        let kept = config.parts.iter().find(|part| part.path == own);
        // What else somebody put there stays; the recipe's own settings are given anew.
        let mut text = kept.map(|part| part.text.clone()).unwrap_or_default();
        let has_more = |part: &Part| part.values.keys().any(|key| !wanted.contains_key(key));
        if kept.is_some_and(has_more) {
            for key in wanted.keys().filter_map(Value::as_str) {
                text = comment_out(&text, key).unwrap_or(text);
            }
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(recipe);
        } else {
            text = recipe.to_owned();
        }
        if parse(text.as_bytes()).is_err() {
            self.obstacles.push(format!("{own}: its own settings cannot be taken out line by line"));
            return Ok(());
        }
        let change = format!("{own}: datasource_list is [{}]", demand.datasources.join(", "));
        self.write(&own, text, change)?;
        self.silence_later_files(&own, demand, wanted)
    }

    /// Files that are read behind our own and say something else.
    fn silence_later_files(
        &mut self,
        own: &str,
        demand: &Demand<'_>,
        wanted: &Mapping,
    ) -> Result<(), FixError> {
        for key in wanted.keys().filter_map(Value::as_str) {
            let config = CloudConfig::read(&*self.stage)?;
            let is_right = |config: &CloudConfig| match (config.effective().get(key), wanted.get(key)) {
                (Some(value), Some(wanted)) => {
                    covers(value, wanted) && (key != LIST || is_identified(config, demand.datasources))
                }
                _ => false,
            };
            if is_right(&config) {
                continue;
            }
            for part in config.parts.iter().filter(|part| part.path.as_str() > own && part.path != MAIN) {
                if !part.values.contains_key(key) {
                    continue;
                }
                match comment_out(&part.text, key) {
                    Some(text) => {
                        let change = format!("{}: {key} made a comment", part.path);
                        self.write(&part.path, text, change)?;
                    }
                    None => {
                        let obstacle =
                            format!("{}: {key} overrides {own} and cannot be taken out", part.path);
                        self.obstacles.push(obstacle);
                    }
                }
            }
            if self.obstacles.is_empty() && !is_right(&CloudConfig::read(&*self.stage)?) {
                self.obstacles.push(format!("{own}: {key} does not come into force"));
            }
        }
        Ok(())
    }
}

const LIST: &str = "datasource_list";

/// True when the merged configuration says all that is wanted, and `ds-identify` reads the same data sources.
fn is_met(config: &CloudConfig, wanted: &Mapping, datasources: &[String]) -> bool {
    let effective = config.effective();
    let has = |key: &Value, wanted: &Value| effective.get(key).is_some_and(|value| covers(value, wanted));
    wanted.iter().all(|(key, value)| has(key, value)) && is_identified(config, datasources)
}

fn is_identified(config: &CloudConfig, datasources: &[String]) -> bool {
    config.identified_datasources().is_some_and(|found| found == datasources)
}
