//! One line of sshd_config into keyword and arguments, as OpenSSH cuts it.

/// Blanks between keyword and arguments.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LineError {
    NoArgument(String),
    Quotes,
}

impl std::fmt::Display for LineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LineError::NoArgument(keyword) => write!(f, "{keyword} has no argument"),
            LineError::Quotes => f.write_str("a quote is not closed"),
        }
    }
}

/// Keyword, in lower case, and arguments; `None` for a comment or an empty line.
///
/// Between keyword and arguments stand blanks, one `=`, or both. An argument may be quoted with `"` or `'`, with
/// `\` before quotes, `\` and blanks. `#` at the start of an argument begins a comment.
pub(super) fn split_line(line: &str) -> Result<Option<(String, Vec<String>)>, LineError> {
    let line = line.trim_end_matches(|sign| BLANKS.contains(&sign) || sign == '\u{c}');
    let line = line.trim_start_matches(BLANKS);
    // What stands before the first separator may be nothing; then the word behind it is the keyword.
    let line = line.strip_prefix('=').map_or(line, |rest| rest.trim_start_matches(BLANKS));
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (keyword, rest) = match line.strip_prefix('"') {
        Some(quoted) => {
            let (keyword, rest) = quoted.split_once('"').ok_or(LineError::Quotes)?;
            (keyword, rest.trim_start_matches(BLANKS))
        }
        None => match line.find(|sign| BLANKS.contains(&sign) || sign == '=' || sign == '"') {
            Some(end) => {
                let (keyword, rest) = line.split_at(end);
                let rest = rest.trim_start_matches(BLANKS);
                (keyword, rest.strip_prefix('=').unwrap_or(rest).trim_start_matches(BLANKS))
            }
            None => (line, ""),
        },
    };
    let arguments = arguments(rest)?;
    if arguments.is_empty() {
        return Err(LineError::NoArgument(keyword.to_owned()));
    }
    Ok(Some((keyword.to_ascii_lowercase(), arguments)))
}

fn arguments(rest: &str) -> Result<Vec<String>, LineError> {
    let mut arguments = Vec::new();
    let mut signs = rest.chars().peekable();
    loop {
        while signs.next_if(|sign| matches!(sign, ' ' | '\t')).is_some() {}
        match signs.peek() {
            None | Some('#') => return Ok(arguments),
            Some(_) => {}
        }
        let mut argument = String::new();
        let mut quote = None;
        while let Some(sign) = signs.peek().copied() {
            if quote.is_none() && matches!(sign, ' ' | '\t') {
                break;
            }
            signs.next();
            match (sign, quote) {
                ('\\', _) => match signs.peek() {
                    Some(next @ ('\'' | '"' | '\\')) => {
                        argument.push(*next);
                        signs.next();
                    }
                    Some(' ') if quote.is_none() => {
                        argument.push(' ');
                        signs.next();
                    }
                    _ => argument.push('\\'),
                },
                ('"' | '\'', None) => quote = Some(sign),
                (_, Some(open)) if sign == open => quote = None,
                _ => argument.push(sign),
            }
        }
        if quote.is_some() {
            return Err(LineError::Quotes);
        }
        arguments.push(argument);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_openssh_cuts_them() {
        for (line, keyword, arguments) in [
            ("Port 22", "port", vec!["22"]),
            ("  UseDNS=no\r", "usedns", vec!["no"]),
            ("USEDNS = no \u{c}", "usedns", vec!["no"]),
            ("AcceptEnv LANG LC_*\t# both", "acceptenv", vec!["LANG", "LC_*"]),
            (r#"Banner "/etc/a b""#, "banner", vec!["/etc/a b"]),
            (r#"Banner /etc/a\ b'c d'\'"#, "banner", vec!["/etc/a bc d'"]),
            (r#""Port" 22"#, "port", vec!["22"]),
            (r#"Banner """#, "banner", vec![""]),
            ("Port 22#x", "port", vec!["22#x"]),
        ] {
            let arguments = arguments.into_iter().map(str::to_owned).collect();
            assert_eq!(split_line(line), Ok(Some((keyword.to_owned(), arguments))), "{line}");
        }
        assert_eq!(split_line(" # Port 22"), Ok(None));
        assert_eq!(split_line("Port"), Err(LineError::NoArgument("Port".into())));
        assert_eq!(split_line("Port # 22"), Err(LineError::NoArgument("Port".into())));
        assert_eq!(split_line("Banner \"x"), Err(LineError::Quotes));
    }
}
