//! Several lines that the kernel gets as one: the `options` of a Boot Loader Specification entry and the variable
//! of GRUB's environment block that they refer to.

use crate::cmdline::CommandLine;

/// Kernel arguments whose tokens stand in several places. Edits are made on the whole; each token stays where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedLine {
    line: CommandLine,
    /// Blanks before the first token of each part, and bytes behind its last.
    edges: Vec<(Vec<u8>, Vec<u8>)>,
    has_expansion: bool,
}

impl JoinedLine {
    /// `lines` in their order, the whole argument `$name` or `${name}` followed by what it stands for. That is
    /// where additions go, when nothing but variables follows it.
    pub fn new(lines: Vec<CommandLine>, expansion: Option<(&str, CommandLine)>) -> Self {
        let quoting = lines.first().map_or(crate::cmdline::Quoting::LoaderEntry, CommandLine::quoting);
        let mut joined = CommandLine::empty(quoting);
        let mut edges: Vec<_> = lines.iter().map(CommandLine::edges).collect();
        let count = lines.len();
        let (name, mut inner) = match expansion {
            Some((name, inner)) => {
                edges.push(inner.edges());
                (Some(name), Some(inner))
            }
            None => (None, None),
        };
        let has_expansion = inner.is_some();
        for (part, line) in lines.into_iter().enumerate() {
            for token in line.into_tokens(part) {
                let is_reference = name.is_some_and(|name| token.is_reference(name));
                joined.push(token);
                if is_reference && let Some(inner) = inner.take() {
                    joined.set_home(count);
                    inner.into_tokens(count).into_iter().for_each(|token| joined.push(token));
                }
            }
        }
        // Nothing refers to it: it is kept, apart.
        if let Some(inner) = inner {
            inner.into_tokens(count).into_iter().for_each(|token| joined.push(token));
        }
        Self { line: joined, edges, has_expansion }
    }

    /// The arguments as the kernel gets them; the reference itself is among them.
    pub fn line(&self) -> &CommandLine {
        &self.line
    }

    /// The arguments, for edits.
    pub fn line_mut(&mut self) -> &mut CommandLine {
        &mut self.line
    }

    /// Takes the lines apart again: those that were given, and what the variable is to stand for.
    pub fn split(self) -> (Vec<CommandLine>, Option<CommandLine>) {
        let quoting = self.line.quoting();
        let mut parts: Vec<CommandLine> = self.edges.iter().map(|_| CommandLine::empty(quoting)).collect();
        for mut token in self.line.into_own_tokens() {
            let index = token.part().min(parts.len().saturating_sub(1));
            token.leave_parts();
            if let Some(part) = parts.get_mut(index) {
                part.push(token);
            }
        }
        for (part, edges) in parts.iter_mut().zip(self.edges) {
            part.set_edges(edges);
        }
        let inner = if self.has_expansion { parts.pop() } else { None };
        (parts, inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(lines: &[&str], inner: Option<&str>) -> JoinedLine {
        let parse = |text: &&str| CommandLine::parse_loader_options(text.as_bytes());
        JoinedLine::new(lines.iter().map(parse).collect(), inner.map(|text| ("kernelopts", parse(&text))))
    }

    fn edited(lines: &[&str], inner: Option<&str>, edit: impl FnOnce(&mut CommandLine)) -> Vec<String> {
        let mut joined = joined(lines, inner);
        edit(joined.line_mut());
        let (lines, inner) = joined.split();
        let text = |line: CommandLine| String::from_utf8(line.to_bytes()).unwrap();
        lines.into_iter().chain(inner).map(text).collect()
    }

    #[test]
    fn every_byte_comes_back() {
        for (lines, inner) in [
            (vec![" root=x  ro\t", "quiet"], None),
            (vec!["$kernelopts $tuned_params"], Some(" root=x ro ")),
            (vec!["", "  "], Some("")),
            (vec!["a"], Some("unused")),
        ] {
            let expected: Vec<String> =
                lines.iter().chain(inner.iter()).map(|text| (*text).to_owned()).collect();
            assert_eq!(edited(&lines, inner, |_| {}), expected);
        }
    }

    #[test]
    fn additions_go_where_the_variable_points() {
        let add = |line: &mut CommandLine| {
            line.set("net.ifnames", Some("0")).unwrap();
            line.set_consoles(&["tty0", "ttyS0"]).unwrap();
        };
        assert_eq!(
            edited(&["$kernelopts $tuned_params"], Some("root=x ro"), add),
            ["$kernelopts $tuned_params", "root=x ro net.ifnames=0 console=tty0 console=ttyS0"]
        );
        // What stands behind the variable wins, so it is changed there.
        assert_eq!(
            edited(&["$kernelopts net.ifnames=1"], Some("root=x console=ttyS0"), add),
            ["$kernelopts net.ifnames=0", "root=x console=tty0 console=ttyS0"]
        );
        assert_eq!(
            edited(&["root=x", "ro $tuned_params"], None, add),
            ["root=x", "ro $tuned_params net.ifnames=0 console=tty0 console=ttyS0"]
        );
        assert_eq!(
            edited(&["${kernelopts}"], Some("resume=a resume_offset=1  ro"), |line| {
                assert_eq!(line.remove("resume") + line.remove("resume_offset"), 2);
            }),
            ["${kernelopts}", "ro"]
        );
    }
}
