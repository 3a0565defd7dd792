//! One file that differs, as data and as text.

use serde::Serialize;

use crate::render::output::{plain, single_line};

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// In the new image only.
    Added,
    /// In the old image only.
    Removed,
    /// In both, with differences.
    Changed,
}

/// One difference of a file that both images have.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// `kind`, `content`, `target`, `device`, `mode`, `owner`, `flags`, or `xattr NAME`.
    pub what: String,
    /// In the old image; `None` when it is not there.
    pub old: Option<String>,
    /// In the new one.
    pub new: Option<String>,
}

/// A file that differs.
#[derive(Debug, Serialize)]
pub struct FileChange {
    /// Guest path.
    pub path: String,
    /// How.
    pub change: Change,
    /// Kind of file; in the new image where both have it.
    pub kind: &'static str,
    /// What differs, of a file that both have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// Unified diff of a text file, with colours.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "plain")]
    pub diff: Option<String>,
}

impl FileChange {
    /// A line as `git status` has it, then its differences and its diff.
    pub fn text(&self) -> String {
        let (sign, style) = match self.change {
            Change::Added => ('+', anstyle::AnsiColor::Green),
            Change::Removed => ('-', anstyle::AnsiColor::Red),
            Change::Changed => ('~', anstyle::AnsiColor::Yellow),
        };
        let style = anstyle::Style::new().fg_color(Some(style.into()));
        let slash = if self.kind == "directory" && self.path != "/" { "/" } else { "" };
        let shown: Vec<String> = self.differences.iter().map(Difference::text).collect();
        let differences = if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) };
        let mut text = format!("{style}{sign} {}{slash}{style:#}{differences}\n", single_line(&self.path));
        text.push_str(self.diff.as_deref().unwrap_or_default());
        text
    }
}

impl Difference {
    fn text(&self) -> String {
        let shown =
            |value: &Option<String>| value.as_deref().map_or_else(|| "nothing".to_owned(), single_line);
        match (&self.old, &self.new) {
            (Some(old), Some(new)) if old == new => self.what.clone(),
            _ => format!("{} {} is now {}", single_line(&self.what), shown(&self.old), shown(&self.new)),
        }
    }
}
