//! Taking settings out of a file without touching anything else of it.

use yaml_serde::Mapping;

use super::parse;

/// The text with the top-level setting `key` made a comment: its line, and those that belong to its value. `None`
/// when it cannot be done so that everything else stays as it is, or when nothing is there.
pub fn comment_out(text: &str, key: &str) -> Option<String> {
    let (_, before) = parse(text.as_bytes()).ok()?;
    let mut wanted: Mapping = before.clone();
    wanted.remove(key)?;
    let mut new = String::with_capacity(text.len() + 64);
    let mut is_inside = false;
    for line in text.split_inclusive('\n') {
        let is_blank = line.trim().is_empty();
        let is_comment = line.starts_with('#');
        // A list may stand at the same depth as the key that it belongs to.
        let is_continued = line.starts_with([' ', '\t']) || line.starts_with("- ") || line.trim_end() == "-";
        if is_setting(line, key) {
            is_inside = true;
        } else if is_inside && !is_blank && !is_comment && !is_continued {
            is_inside = false;
        }
        if is_inside && !is_blank && !is_comment {
            new.push_str("# ");
        }
        new.push_str(line);
    }
    // The reader has the last word: what is left must be what was there, less the setting.
    let (_, after) = parse(new.as_bytes()).ok()?;
    (after == wanted).then_some(new)
}

fn is_setting(line: &str, key: &str) -> bool {
    let after = |start: String| {
        line.strip_prefix(start.as_str()).is_some_and(|rest| rest.trim_start().starts_with(':'))
    };
    after(key.to_owned()) || after(format!("\"{key}\"")) || after(format!("'{key}'"))
}

/// The text with the lines of which `is_meant` made comments; `None` when there is none.
pub fn comment_out_line(text: &str, is_meant: impl Fn(&str) -> bool) -> Option<String> {
    let mut new = String::with_capacity(text.len() + 8);
    let mut is_changed = false;
    for line in text.split_inclusive('\n') {
        if is_meant(line) {
            new.push_str("# ");
            is_changed = true;
        }
        new.push_str(line);
    }
    is_changed.then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_goes_with_all_of_its_value() {
        let text =
            "# head\nusers:\n- default\n\n- name: x\n  shell: y\ndatasource_list:\n  - None\n# tail\nlast: 1";
        let without = comment_out(text, "users").unwrap();
        assert_eq!(
            without,
            "# head\n# users:\n# - default\n\n# - name: x\n#   shell: y\ndatasource_list:\n  - None\n# tail\nlast: 1"
        );
        let both = comment_out(&without, "datasource_list").unwrap();
        assert!(both.ends_with("# datasource_list:\n#   - None\n# tail\nlast: 1"), "{both}");
        assert_eq!(comment_out(&both, "users"), None);
        assert_eq!(comment_out("\"a\": 1\n'b' : 2\n", "b").as_deref(), Some("\"a\": 1\n# 'b' : 2\n"));
        let block = "a: |\n  b: text\n\n  c\nb: 2\n";
        assert_eq!(comment_out(block, "b").as_deref(), Some("a: |\n  b: text\n\n  c\n# b: 2\n"));
    }

    #[test]
    fn what_cannot_be_taken_out_cleanly_is_refused() {
        assert_eq!(comment_out("{a: 1, b: 2}\n", "a"), None);
        assert_eq!(comment_out("a: &x {c: 1}\nb: *x\n", "a"), None);
        assert_eq!(comment_out("a: [", "a"), None);
    }
}
