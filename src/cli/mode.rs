//! Permission modes as `chmod` takes them, owners as `chown` takes them.

use std::str::FromStr;

/// What `chmod` was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// All bits given: octal.
    Absolute(u16),
    /// Clauses such as `u+x,go-w`.
    Symbolic(Vec<Clause>),
}

/// One symbolic clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Mask of the classes named (`0o4700`, `0o2070`, `0o1007` joined).
    who: u16,
    operation: char,
    permissions: String,
}

impl ModeChange {
    /// The mode after the change; `X` looks at whether the file is a directory or executable already.
    pub fn apply(&self, mode: u16, is_directory: bool) -> u16 {
        match self {
            ModeChange::Absolute(bits) => *bits,
            ModeChange::Symbolic(clauses) => {
                clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_directory))
            }
        }
    }
}

impl Clause {
    fn apply(&self, mode: u16, is_directory: bool) -> u16 {
        let mut bits = 0;
        for permission in self.permissions.chars() {
            bits |= match permission {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_directory || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                _ => 0,
            };
        }
        bits &= self.who;
        match self.operation {
            '+' => mode | bits,
            '-' => mode & !bits,
            // `=` clears the class's bits; the set-id bits of a directory stay, as chmod(1) keeps them.
            _ => (mode & !(self.who & if is_directory { 0o1777 } else { 0o7777 })) | bits,
        }
    }
}

impl FromStr for ModeChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no mode; give octal digits (0644) or clauses (u+x,go-w)");
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let bits = u16::from_str_radix(text, 8).map_err(|_| wrong())?;
            return if bits <= 0o7777 { Ok(Self::Absolute(bits)) } else { Err(wrong()) };
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let at = part.find(['+', '-', '=']).ok_or_else(wrong)?;
            let mut who = 0;
            for class in part[..at].chars() {
                who |= match class {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o1007,
                    'a' => 0o7777,
                    _ => return Err(wrong()),
                };
            }
            let permissions = part[at + 1..].to_owned();
            if !permissions.chars().all(|c| "rwxXst".contains(c)) {
                return Err(wrong());
            }
            let operation = part[at..].chars().next().ok_or_else(wrong)?;
            clauses.push(Clause { who: if who == 0 { 0o7777 } else { who }, operation, permissions });
        }
        Ok(Self::Symbolic(clauses))
    }
}

/// Numeric owner and group; names would need the guest's passwd and are looked up there by the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// User name or number.
    pub user: Option<String>,
    /// Group name or number.
    pub group: Option<String>,
}

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (part(user), part(group)),
            None => (part(text), None),
        };
        if user.is_none() && group.is_none() {
            return Err(format!("{text:?} names neither user nor group; give USER, USER:GROUP or :GROUP"));
        }
        Ok(Self { user, group })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_equal_those_of_chmod() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"").unwrap();
        for start in [0o644u16, 0o755, 0o600, 0o4755] {
            for text in
                ["u+x", "go-w", "a=r", "u=rwx,g=rx,o=", "+x", "u+s", "g+s,o+t", "a+X", "0640", "755", "ug=rw"]
            {
                let run = |mode: &str| {
                    let mut command = std::process::Command::new("chmod");
                    // Clauses without a class obey the umask in chmod(1); a zero umask makes it all bits.
                    assert!(command.arg(mode).arg(&path).status().unwrap().success());
                };
                run(&format!("{start:04o}"));
                let status = std::process::Command::new("sh")
                    .args(["-c", "umask 0; chmod \"$0\" \"$1\"", text])
                    .arg(&path)
                    .status()
                    .unwrap();
                assert!(status.success());
                let want =
                    std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap()) as u16 & 0o7777;
                let got = text.parse::<ModeChange>().unwrap().apply(start, false);
                assert_eq!(got, want, "{start:o} {text}: {got:o} not {want:o}");
            }
        }
        for text in ["8", "77777", "u", "z+x", "u+q", ""] {
            assert!(text.parse::<ModeChange>().is_err(), "{text}");
        }
    }

    #[test]
    fn owners() {
        let owner: Owner = "root:adm".parse().unwrap();
        assert_eq!((owner.user.as_deref(), owner.group.as_deref()), (Some("root"), Some("adm")));
        assert_eq!(":5".parse::<Owner>().unwrap().user, None);
        assert!(":".parse::<Owner>().is_err());
    }
}
