//! What is asked for each image, looked up and digested before the run.

use std::collections::BTreeMap;
use std::ffi::OsString;

use ::batch::{Action, Entry, Job, sha256_hex};
use cloudspec::Profile;
use fixes::Selection;
use report::Class;

use crate::cli::batch::{BatchArgs, Do};
use crate::cli::convert::ConvertArgs;
use crate::commands::profiles;
use crate::render::output::Failure;

/// What the command line says for all images.
pub fn common(args: &BatchArgs) -> Entry {
    use clap::ValueEnum;
    let input_format = args.image.input_format.as_ref().and_then(ValueEnum::to_possible_value);
    Entry {
        action: args.action.map(|action| match action {
            Do::Check => Action::Check,
            Do::Fix => Action::Fix,
            Do::Convert => Action::Convert,
        }),
        profile: args.rules.profile.as_deref().map(found_from_anywhere),
        set: args.rules.set.iter().cloned().collect(),
        only: args.rules.only.clone(),
        skip: args.rules.skip.clone(),
        output_format: args.target.output_format.clone(),
        options: args.target.options.clone(),
        compress: args.target.compress.clone(),
        force: args.target.force.then_some(true),
        input_format: input_format.map(|format| format.get_name().to_owned()),
        ..Entry::default()
    }
}

/// A profile that is a file is named by its whole path: a manifest that is written out may lie elsewhere.
fn found_from_anywhere(profile: &str) -> String {
    let path = std::path::absolute(profile).ok().filter(|path| path.is_file());
    path.and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_else(|| profile.to_owned())
}

/// A profile with its switches decided.
pub struct Resolved {
    pub profile: Profile,
    /// Of everything in it.
    pub digest: String,
}

/// One image's job with its profile.
pub struct Request<'a> {
    pub job: &'a Job,
    pub profile: Option<&'a Resolved>,
    pub selection: Selection,
    /// What `convert` would have been called with.
    pub convert: Option<ConvertArgs>,
    /// Of everything that is asked for.
    pub digest: String,
}

type Key = (String, BTreeMap<String, String>);

/// All profiles of a batch, each looked up once.
pub struct Requests<'a> {
    profiles: BTreeMap<Key, Resolved>,
    args: &'a BatchArgs,
}

impl<'a> Requests<'a> {
    /// Looks up what the jobs name. An error says where the job stands.
    pub fn new(jobs: &[Job], args: &'a BatchArgs) -> Result<Self, Failure> {
        let mut profiles: BTreeMap<Key, Resolved> = BTreeMap::new();
        for job in jobs {
            let Some(key) = key(&job.entry) else { continue };
            if profiles.contains_key(&key) {
                continue;
            }
            let resolved = resolve(&key).map_err(|mut failure| {
                failure.diagnostic.message = format!("{}: {}", job.origin, failure.diagnostic.message);
                failure
            })?;
            profiles.insert(key, resolved);
        }
        Ok(Self { profiles, args })
    }

    /// The requests, in the order of the jobs.
    pub fn of_jobs<'s>(&'s self, jobs: &'s [Job]) -> Result<Vec<Request<'s>>, Failure> {
        let request = |job: &'s Job| {
            let profile = key(&job.entry).and_then(|key| self.profiles.get(&key));
            let selection = Selection {
                only: job.entry.only.clone().unwrap_or_default(),
                skip: job.entry.skip.clone().unwrap_or_default(),
            };
            // What says how, not what, does not count: the same result is the same job.
            let what = Entry { allocated: None, force: None, ..job.entry.clone() };
            let digest = sha256_hex(
                serde_json::json!({
                    "entry": what,
                    "profile": profile.map(|resolved| &resolved.digest),
                    "dry_run": self.args.dry_run,
                    "fix_rest": self.args.fix_rest,
                })
                .to_string()
                .as_bytes(),
            );
            let convert =
                (job.action == Action::Convert).then(|| convert_args(job, self.args)).transpose()?;
            Ok(Request { job, profile, selection, convert, digest })
        };
        jobs.iter().map(request).collect()
    }
}

/// `convert`'s own command line, so that a batch takes what it takes and refuses what it refuses.
fn convert_args(job: &Job, args: &BatchArgs) -> Result<ConvertArgs, Failure> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        convert: ConvertArgs,
    }
    let entry = &job.entry;
    let mut words: Vec<OsString> = vec!["convert".into()];
    let mut option = |name: &str, value: Option<OsString>| {
        words.extend(value.into_iter().flat_map(|value| [name.into(), value]));
    };
    let text = |value: &Option<String>| value.as_ref().map(OsString::from);
    option("--input-format", text(&entry.input_format));
    option("--output-format", text(&entry.output_format));
    option("--options", text(&entry.options));
    option("--compress", text(&entry.compress));
    option("--allow-backing", args.image.allow_backing.as_ref().map(OsString::from));
    option("--fix", text(&entry.profile));
    for (name, value) in &entry.set {
        option("--set", Some(format!("{name}={value}").into()));
    }
    for (name, rules) in [("--only", &entry.only), ("--skip", &entry.skip)] {
        option(name, rules.as_ref().filter(|rules| !rules.is_empty()).map(|rules| rules.join(",").into()));
    }
    if entry.profile.is_some() && args.fix_rest {
        words.push("--keep-going".into());
    }
    words.push("--".into());
    words.push(entry.image.clone().into());
    words.extend(entry.output.clone().map(OsString::from));
    let line = <Line as clap::Parser>::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Failure::usage(format!("{}: {reason}", job.origin))
    })?;
    Ok(line.convert)
}

fn key(entry: &Entry) -> Option<Key> {
    entry.profile.clone().map(|profile| (profile, entry.set.clone()))
}

fn resolve((name, set): &Key) -> Result<Resolved, Failure> {
    let settings: Vec<(String, String)> = set.clone().into_iter().collect();
    let profile = profiles::load(name)?.with(&settings)?;
    let text = serde_json::to_vec(&profile)
        .map_err(|error| Failure::new("report.encode", Class::Bug, error.to_string()))?;
    Ok(Resolved { digest: sha256_hex(&text), profile })
}
