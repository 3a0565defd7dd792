//! `[section]` and `key=value` text that is edited line by line.

/// Lines of one file at most; real ones have some tens.
const LINES_MAX: usize = 20_000;

/// Text with sections. What is not changed stays as it is, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ini {
    lines: Vec<String>,
}

enum Line<'l> {
    Section(&'l str),
    Setting(&'l str, &'l str),
    Nothing,
}

fn read(line: &str) -> Option<Line<'_>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Some(Line::Nothing);
    }
    if let Some(name) = line.strip_prefix('[') {
        return name.strip_suffix(']').map(Line::Section);
    }
    let (key, value) = line.split_once('=')?;
    Some(Line::Setting(key.trim_end(), value.trim_start()))
}

impl Ini {
    /// The number of the first line that is neither a section, a setting nor a comment, when there is one.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        if lines.len() > LINES_MAX {
            return Err(LINES_MAX);
        }
        let mut has_section = false;
        for (number, line) in lines.iter().enumerate() {
            match read(line) {
                Some(Line::Section(_)) => has_section = true,
                Some(Line::Setting(..)) if !has_section => return Err(number + 1),
                Some(_) => {}
                None => return Err(number + 1),
            }
        }
        Ok(Self { lines })
    }

    /// All values of a setting, in their order.
    pub fn all(&self, section: &str, key: &str) -> Vec<&str> {
        self.settings().filter(|(s, k, _)| *s == section && *k == key).map(|(_, _, value)| value).collect()
    }

    /// The last value of a setting.
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        self.all(section, key).pop()
    }

    /// Section, key and value of each setting.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let mut section = "";
        self.lines.iter().filter_map(move |line| match read(line) {
            Some(Line::Section(name)) => {
                section = name;
                None
            }
            Some(Line::Setting(key, value)) => Some((section, key, value)),
            _ => None,
        })
    }

    /// Takes out all settings for which `is_out` holds; the lines that went.
    pub fn remove(&mut self, is_out: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let mut section = String::new();
        let mut gone = Vec::new();
        self.lines.retain(|line| {
            match read(line) {
                Some(Line::Section(name)) => section = name.to_owned(),
                Some(Line::Setting(key, _)) if is_out(&section, key) => {
                    gone.push(line.trim().to_owned());
                    return false;
                }
                _ => {}
            }
            true
        });
        gone
    }

    /// Gives a setting one value, in its place, or at the end of its section, or in a new section.
    pub fn set(&mut self, section: &str, key: &str, value: &str) {
        let new = format!("{key}={value}\n");
        let (mut current, mut place, mut end) = (String::new(), None, None);
        for (number, line) in self.lines.iter().enumerate() {
            match read(line) {
                Some(Line::Section(name)) => current = name.to_owned(),
                Some(Line::Setting(name, _)) if current == section && name == key => place = Some(number),
                _ => {}
            }
            if current == section && !line.trim().is_empty() {
                end = Some(number + 1);
            }
        }
        if let Some(line) = self.lines.last_mut()
            && !line.ends_with('\n')
        {
            line.push('\n');
        }
        match (place, end) {
            (Some(place), _) => self.lines[place] = new,
            (None, Some(end)) => self.lines.insert(end, new),
            (None, None) => {
                if !self.lines.is_empty() {
                    self.lines.push("\n".into());
                }
                self.lines.push(format!("[{section}]\n"));
                self.lines.push(new);
            }
        }
    }

    /// The text.
    pub fn text(&self) -> String {
        self.lines.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_touch_their_lines_only() {
        let mut ini = Ini::parse("# c\n[a]\nx = 1\n\n[b]\ny=2\ny=3").unwrap();
        assert_eq!((ini.get("a", "x"), ini.all("b", "y")), (Some("1"), vec!["2", "3"]));
        ini.set("a", "x", "9");
        ini.set("a", "z", "8");
        ini.set("c", "w", "7");
        assert_eq!(ini.remove(|section, key| section == "b" && key == "y"), ["y=2", "y=3"]);
        assert_eq!(ini.text(), "# c\n[a]\nx=9\nz=8\n\n[b]\n\n[c]\nw=7\n");
        assert_eq!(Ini::parse("[a]\nnothing\n"), Err(2));
        assert_eq!(Ini::parse("x=1\n"), Err(1));
        assert_eq!(Ini::parse("[a\n"), Err(1));
    }
}
