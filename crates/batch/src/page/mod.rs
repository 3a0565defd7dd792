//! One self-contained HTML page of a report.
//!
//! Nothing is loaded, and nothing inside can load or run anything but the page's own script: the page carries a content
//! security policy with the hashes of its style and its script, and everything that comes from a report is escaped.
//! All but filter and sorting works without that script. The page is bounded: lines are counted, texts are cut, maps
//! become coarser and plots take samples when there are many images.

mod disk;
mod html;
mod plots;
mod rules;
mod table;
mod timeline;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

use self::html::{base64, bytes, duration, escape};
use crate::{BatchError, Line, Outcome};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Images at most.
const IMAGES_MAX: usize = 200_000;

/// A page, made of lines.
pub struct Page {
    title: String,
    /// Seconds since 1970 as people read them.
    utc: fn(i64) -> String,
    lines: Vec<Line>,
    /// The last line of an image counts.
    places: HashMap<(String, String), usize>,
}

impl Page {
    /// An empty page; `utc` prints times.
    pub fn new(title: &str, utc: fn(i64) -> String) -> Self {
        Self { title: title.to_owned(), utc, lines: Vec::new(), places: HashMap::new() }
    }

    /// Takes a line.
    pub fn add(&mut self, mut line: Line) -> Result<(), BatchError> {
        line.report = None;
        let key = (line.image.clone(), line.job_digest.clone());
        if let Some(place) = self.places.get(&key) {
            self.lines[*place] = line;
            return Ok(());
        }
        if self.lines.len() >= IMAGES_MAX {
            return Err(BatchError::TooMany { most: IMAGES_MAX });
        }
        self.places.insert(key, self.lines.len());
        self.lines.push(line);
        Ok(())
    }

    /// The page.
    pub fn html(&self) -> String {
        let mut lines: Vec<&Line> = self.lines.iter().collect();
        // The worst first: what needs somebody is on top.
        lines.sort_by(|one, other| (other.result, &one.image).cmp(&(one.result, &other.image)));
        let title = escape(&self.title);
        let hash = |text: &str| {
            use sha2::{Digest, Sha256};
            base64(&Sha256::digest(text.as_bytes()))
        };
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{}'; \
             script-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
            hash(STYLE),
            hash(SCRIPT),
        );
        self.head(&mut page, &title, &lines);
        page.push_str("<main>\n");
        rules::section(&mut page, &lines);
        plots::section(&mut page, &lines);
        table::section(&mut page, &lines);
        page.push_str("</main>\n");
        self.foot(&mut page, &lines);
        let _ = write!(page, "<script>{SCRIPT}</script>\n</body>\n</html>\n");
        page
    }

    fn head(&self, page: &mut String, title: &str, lines: &[&Line]) {
        let count = |result: Outcome| lines.iter().filter(|line| line.result == result).count();
        let from = lines.iter().map(|line| line.started_at).fold(f64::INFINITY, f64::min);
        let busy = timeline::Timeline::new(lines).seconds();
        let work: f64 = lines.iter().map(|line| line.seconds.max(0.0)).sum();
        let stored: u64 = lines
            .iter()
            .filter_map(|line| line.source.as_ref())
            .fold(0, |sum: u64, source| sum.saturating_add(source.allocated));
        let begun = if from.is_finite() {
            format!("begun {} UTC", (self.utc)(from as i64))
        } else {
            "no image".into()
        };
        let _ = write!(
            page,
            "<header>\n<h1>{title}</h1>\n<p class=\"soft\">{}</p>\n<ul class=\"cards\">\n",
            escape(&begun)
        );
        let mut card = |class: &str, value: String, what: &str| {
            let _ = writeln!(page, "<li class=\"{class}\"><strong>{value}</strong>{what}</li>");
        };
        card("", lines.len().to_string(), "images");
        card("done", count(Outcome::Done).to_string(), "done");
        card("unmet", count(Outcome::Unmet).to_string(), "rules unmet");
        card("failed", count(Outcome::Failed).to_string(), "failed");
        card("", bytes(stored), "on the host");
        card("", duration(busy), "of run time");
        card("", duration(work), "of all images");
        page.push_str("</ul>\n");
        for warning in shard_warnings(lines) {
            let _ = writeln!(page, "<p class=\"warning\">{}</p>", escape(&warning));
        }
        page.push_str("</header>\n");
    }

    fn foot(&self, page: &mut String, lines: &[&Line]) {
        let set = |value: fn(&Line) -> Option<String>| {
            let all: BTreeSet<String> = lines.iter().filter_map(|line| value(line)).collect();
            let mut shown: Vec<String> = all.iter().take(20).cloned().collect();
            if all.len() > shown.len() {
                shown.push(format!("and {} others", all.len() - shown.len()));
            }
            escape(&shown.join(", "))
        };
        let versions = set(|line| Some(format!("coldfit {}", line.coldfit)));
        let profiles = set(|line| {
            let digest: String = line.profile_digest.as_deref()?.chars().take(12).collect();
            Some(format!("{} ({digest})", line.profile.as_deref()?))
        });
        let _ = write!(page, "<footer><p>Made by {versions}.");
        if !profiles.is_empty() {
            let _ = write!(page, " Profiles, with the beginning of their digests: {profiles}.");
        }
        page.push_str("</p></footer>\n");
    }
}

/// Shards that do not fit together, and shards that are not there.
fn shard_warnings(lines: &[&Line]) -> Vec<String> {
    let mut plans: BTreeMap<(&str, u32), BTreeSet<u32>> = BTreeMap::new();
    for shard in lines.iter().filter_map(|line| line.shard.as_ref()) {
        plans.entry((shard.plan.as_str(), shard.count)).or_default().insert(shard.index);
    }
    let mut warnings = Vec::new();
    if plans.len() > 1 {
        warnings.push(
            "These shards were not made from the same list of images: some may be missing or done twice."
                .to_owned(),
        );
    }
    for ((_, count), seen) in &plans {
        let missing = (*count as usize).saturating_sub(seen.len());
        if missing > 0 {
            warnings.push(format!("{missing} of {count} shards have no line here."));
        }
    }
    warnings
}
