//! `/etc/shadow`: the password field of an account (shadow(5)).

use crate::Lines;

/// Fields of a line.
const FIELDS: usize = 9;

/// Where an account stands and what its password field is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line number, from 1.
    pub line: usize,
    /// The second field.
    pub password: String,
}

/// The line of an account; an error names the line that is no account, stands twice or has fields missing.
pub fn find(text: &[u8], account: &str) -> Result<Option<Entry>, (usize, String)> {
    let mut found: Option<Entry> = None;
    for (number, line) in Lines::parse(text).iter() {
        // `+` and `-` are NIS entries (nsswitch's compat).
        if line.is_empty() || line.starts_with(['+', '-']) {
            continue;
        }
        let fields: Vec<&str> = line.split(':').collect();
        let (Some(name), Some(password)) = (fields.first(), fields.get(1)) else {
            return Err((number, "no fields".into()));
        };
        if *name != account {
            continue;
        }
        if fields.len() != FIELDS {
            return Err((number, format!("{account} has {} fields and not {FIELDS}", fields.len())));
        }
        if let Some(first) = found {
            return Err((number, format!("{account} stands here again, after line {}", first.line)));
        }
        found = Some(Entry { line: number, password: (*password).to_owned() });
    }
    Ok(found)
}

/// The file with another password field in this line.
pub fn with_password(text: &[u8], line: usize, password: &str) -> Vec<u8> {
    let mut lines = Lines::parse(text);
    if let Some(old) = lines.get(line) {
        let mut fields: Vec<&str> = old.split(':').collect();
        if let Some(field) = fields.get_mut(1) {
            *field = password;
        }
        let new = fields.join(":");
        lines.set(line, new);
    }
    lines.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_of_one_account() {
        let text = b"toroot:a:1:::::: \nroot:$6$x:19000:0:99999:7:::\nsubroot:b:1::::::\n";
        let entry = find(text, "root").unwrap().unwrap();
        assert_eq!((entry.line, entry.password.as_str()), (2, "$6$x"));
        assert_eq!(
            with_password(text, entry.line, "*"),
            b"toroot:a:1:::::: \nroot:*:19000:0:99999:7:::\nsubroot:b:1::::::\n"
        );
        assert_eq!(find(b"a:b:1::::::\n", "root"), Ok(None));
        assert_eq!(find(b"garbage\n", "root").unwrap_err().0, 1);
        assert_eq!(find(b"root:x:1\n", "root").unwrap_err().0, 1);
        assert_eq!(find(b"root:x:1::::::\nroot:y:1::::::\n", "root").unwrap_err().0, 2);
    }
}
