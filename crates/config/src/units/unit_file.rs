//! Text of a unit file: sections, keys, values. systemd.syntax(7).

/// Lines of one file that are looked at.
const LINES_MAX: usize = 20_000;

/// Settings of a unit file and its drop-ins, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFile {
    settings: Vec<(String, String, String)>,
}

impl UnitFile {
    /// The settings of one text.
    pub fn parse(text: &str) -> Self {
        let mut file = Self::default();
        file.add(text);
        file
    }

    /// Adds what a further text sets.
    pub fn add(&mut self, text: &str) {
        let mut section = String::new();
        let mut pending = String::new();
        for line in text.lines().take(LINES_MAX) {
            // A comment between continued lines is passed over.
            if line.trim_start().starts_with(['#', ';']) {
                continue;
            }
            pending.push_str(line);
            if pending.ends_with('\\') {
                pending.pop();
                pending.push(' ');
                continue;
            }
            let whole = std::mem::take(&mut pending);
            let whole = whole.trim();
            if let Some(name) = whole.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.to_owned();
            } else if let Some((key, value)) = whole.split_once('=') {
                self.settings.push((section.clone(), key.trim().to_owned(), value.trim().to_owned()));
            }
        }
    }

    /// Words of a setting that is a list: later lines add, an empty one begins anew.
    pub fn list(&self, section: &str, key: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (_, _, value) in self.settings.iter().filter(|(s, k, _)| s == section && k == key) {
            if value.is_empty() {
                words.clear();
            }
            words.extend(value.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned()));
        }
        words
    }

    /// The last value of a setting.
    pub fn last(&self, section: &str, key: &str) -> Option<&str> {
        let mut all = self.settings.iter().rev().filter(|(s, k, _)| s == section && k == key);
        all.next().map(|(_, _, value)| value.as_str())
    }

    /// All settings: section, key, value.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.settings.iter().map(|(s, k, v)| (s.as_str(), k.as_str(), v.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_continue_reset_and_pass_over_comments() {
        let file = UnitFile::parse(
            "[Unit]\nWants=a.service \\\n# not this\n  b.service\n[Install]\nWantedBy=x.target\nWantedBy=\n\
             WantedBy = y.target\n; Alias=no\nbroken\n",
        );
        assert_eq!(file.list("Unit", "Wants"), ["a.service", "b.service"]);
        assert_eq!(file.list("Install", "WantedBy"), ["y.target"]);
        assert_eq!(file.last("Install", "WantedBy"), Some("y.target"));
        assert!(file.list("Install", "Alias").is_empty());
    }
}
