//! Path aliases: `file_contexts.subs` and `file_contexts.subs_dist`.

/// One file of aliases: a path below the first name is looked up below the second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Substitutions {
    /// In the order in which they are asked: the last line of the file first, as libselinux chains them.
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Aliases of one file that are read; real files have some twenty.
const PAIRS_MAX: usize = 4096;

impl Substitutions {
    /// Two words a line; empty lines and comments are left out.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let mut pairs = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
            let (Some(from), Some(to)) = (words.next(), words.next()) else { continue };
            if from.first() == Some(&b'/') && pairs.len() < PAIRS_MAX {
                pairs.push((from.to_vec(), to.to_vec()));
            }
        }
        pairs.reverse();
        Self { pairs }
    }

    /// The path under its other name, when an alias is it or lies above it.
    pub(crate) fn apply(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.pairs.iter().find_map(|(from, to)| {
            let rest = path.strip_prefix(from.as_slice())?;
            let rest = match rest.first() {
                None => rest,
                // `/alias /` must not make `//…`.
                Some(b'/') if to == b"/" => &rest[1..],
                Some(b'/') => rest,
                Some(_) => return None,
            };
            Some([to.as_slice(), rest].concat())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_components_only_and_the_last_line_first() {
        let subs = Substitutions::parse(
            b"# /x /y\n/lib /usr/lib\n/lib64 /usr/lib\n/alias /\n/lib/a /one\n/lib/a/b /two\n",
        );
        let apply = |path: &str| subs.apply(path.as_bytes()).map(|new| String::from_utf8(new).unwrap());
        assert_eq!(apply("/lib/x").as_deref(), Some("/usr/lib/x"));
        assert_eq!(apply("/lib").as_deref(), Some("/usr/lib"));
        assert_eq!(apply("/lib64/x").as_deref(), Some("/usr/lib/x"));
        assert_eq!(apply("/library"), None);
        assert_eq!(apply("/alias/a").as_deref(), Some("/a"));
        assert_eq!(apply("/lib/a/b/c").as_deref(), Some("/two/c"));
        assert_eq!(apply("/lib/a/c").as_deref(), Some("/one/c"));
    }
}
