//! The SSH server's configuration, evaluated as OpenSSH's `sshd` does (sshd_config(5)).
//!
//! The first value of a keyword counts; `Include` is read where it stands; what follows `Match` holds for some
//! connections only, up to the next `Match` or the end of that file. `Match all` holds for all: its values come
//! before those outside.

mod edit;
mod keywords;
mod lex;

use vfs::{GuestPath, VfsError};

pub use edit::{INCLUDE_COMMENT, Placed, place_setting};
pub use keywords::Version;

use crate::glob::glob;
use crate::{Files, Lines};

/// Directory that relative names in `Include` are below.
const DIRECTORY: &str = "/etc/ssh";
/// Deepest nesting of `Include` (SERVCONF_MAX_DEPTH).
const DEPTH_MAX: usize = 16;
/// Files read at most, one file that is included twice counted twice.
const FILES_MAX: usize = 1024;
/// Lines read at most.
const LINES_MAX: usize = 200_000;

/// For which connections a line holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Outside all `Match` blocks.
    Global,
    /// In `Match all`.
    All,
    /// In another `Match`; its criteria.
    Some(String),
}

/// A line that is no comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// File that it stands in.
    pub file: GuestPath,
    /// Line number, from 1.
    pub line: usize,
    /// Keyword in lower case.
    pub keyword: String,
    /// Its arguments, without quotes.
    pub arguments: Vec<String>,
    /// For which connections it holds.
    pub scope: Scope,
}

impl Directive {
    /// `FILE:LINE`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// Values as `sshd -T` prints them.
    pub fn values(&self) -> Vec<String> {
        keywords::values(&self.keyword, &self.arguments).unwrap_or_default()
    }
}

/// All lines in the order in which the server reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshdConfig {
    /// Lines of all files; `Include` and `Match` lines too.
    pub directives: Vec<Directive>,
    /// What the server refuses to start with: `FILE:LINE: why`.
    pub problems: Vec<String>,
}

impl SshdConfig {
    /// Reads the main file and all that it includes. A main file that is not there has no lines.
    pub fn read(files: &dyn Files, main: &GuestPath) -> Result<Self, VfsError> {
        let mut reading = Reading { files, config: Self::default(), files_read: 0, lines_read: 0 };
        reading.file(main, &Scope::Global, 0)?;
        Ok(reading.config)
    }

    /// Lines that set a keyword for all connections, in the order in which they are asked.
    pub fn setting(&self, keyword: &str) -> Vec<&Directive> {
        let keyword = keywords::canonical(keyword.to_ascii_lowercase());
        let of = |scope: Scope| {
            let keyword = keyword.clone();
            self.directives.iter().filter(move |line| line.keyword == keyword && line.scope == scope)
        };
        // `Match all` is applied once more over the values outside, where the keyword may stand in a Match block.
        if keywords::is_matchable(&keyword) && of(Scope::All).next().is_some() {
            return of(Scope::All).chain(of(Scope::Global)).collect();
        }
        let is_all = |line: &&Directive| line.keyword == keyword && !matches!(line.scope, Scope::Some(_));
        self.directives.iter().filter(is_all).collect()
    }

    /// Lines that set a keyword for some connections.
    pub fn conditional(&self, keyword: &str) -> impl Iterator<Item = (&Directive, &str)> {
        let keyword = keywords::canonical(keyword.to_ascii_lowercase());
        self.directives.iter().filter_map(move |line| match &line.scope {
            Scope::Some(criteria) if line.keyword == keyword => Some((line, criteria.as_str())),
            _ => None,
        })
    }

    /// The values that hold for all connections, as `sshd -T` prints them; none where nothing is set or known.
    pub fn effective(&self, keyword: &str, version: Option<Version>) -> Vec<String> {
        let keyword = keywords::canonical(keyword.to_ascii_lowercase());
        let setting = self.setting(&keyword);
        match setting.first() {
            None => keywords::default(&keyword, version).map(str::to_owned).into_iter().collect(),
            Some(first) if keywords::adds_up(&keyword) => {
                let scope = match keywords::is_matchable(&keyword) {
                    true => Some(&first.scope),
                    false => None,
                };
                let lines = setting.iter().filter(|line| scope.is_none_or(|scope| line.scope == *scope));
                lines.flat_map(|line| line.values()).collect()
            }
            Some(first) => first.values(),
        }
    }
}

/// A setting as it is demanded: keyword and values, the latter as `sshd -T` prints them.
pub fn demanded(setting: &str) -> Result<(String, Vec<String>), String> {
    let parsed = lex::split_line(setting).map_err(|error| error.to_string())?;
    let (keyword, arguments) = parsed.ok_or_else(|| "no keyword".to_owned())?;
    let keyword = keywords::canonical(keyword);
    let values = keywords::values(&keyword, &arguments)?;
    Ok((keyword, values))
}

/// True when the lines of this keyword add up, so that a value is one among others.
pub fn adds_up(keyword: &str) -> bool {
    keywords::adds_up(&keyword.to_ascii_lowercase())
}

struct Reading<'f> {
    files: &'f dyn Files,
    config: SshdConfig,
    files_read: usize,
    lines_read: usize,
}

impl Reading<'_> {
    fn problem(&mut self, file: &GuestPath, line: usize, detail: impl std::fmt::Display) {
        self.config.problems.push(format!("{file}:{line}: {detail}"));
    }

    fn file(&mut self, file: &GuestPath, outside: &Scope, depth: usize) -> Result<(), VfsError> {
        let Some(content) = self.files.read(file)? else { return Ok(()) };
        self.files_read += 1;
        let mut scope = outside.clone();
        for (number, text) in Lines::parse(&content).iter() {
            self.lines_read += 1;
            if self.lines_read > LINES_MAX {
                if self.lines_read == LINES_MAX + 1 {
                    self.problem(file, number, format!("more than {LINES_MAX} lines in all files"));
                }
                return Ok(());
            }
            let (keyword, arguments) = match lex::split_line(text) {
                Ok(Some((keyword, arguments))) => (keywords::canonical(keyword), arguments),
                Ok(None) => continue,
                Err(error) => {
                    self.problem(file, number, error);
                    continue;
                }
            };
            match keyword.as_str() {
                "match" => match criteria(&arguments) {
                    // What is inside a block that does not hold never holds.
                    Ok(inner) if !matches!(outside, Scope::Some(_)) => scope = inner,
                    Ok(_) => {}
                    Err(detail) => self.problem(file, number, detail),
                },
                "include" => {}
                _ => self.check(file, number, &keyword, &arguments, &scope),
            }
            self.config.directives.push(Directive {
                file: file.clone(),
                line: number,
                keyword: keyword.clone(),
                arguments: arguments.clone(),
                scope: scope.clone(),
            });
            if keyword == "include" {
                self.include(file, number, &arguments, &scope, depth)?;
            }
        }
        Ok(())
    }

    fn include(
        &mut self,
        file: &GuestPath,
        number: usize,
        patterns: &[String],
        scope: &Scope,
        depth: usize,
    ) -> Result<(), VfsError> {
        for pattern in patterns {
            for included in glob(self.files, &absolute(pattern))? {
                if depth == DEPTH_MAX {
                    self.problem(file, number, format!("Include is nested deeper than {DEPTH_MAX}"));
                    return Ok(());
                }
                if self.files_read >= FILES_MAX {
                    self.problem(file, number, format!("more than {FILES_MAX} files are included"));
                    return Ok(());
                }
                self.file(&included, scope, depth + 1)?;
            }
        }
        Ok(())
    }

    fn check(&mut self, file: &GuestPath, line: usize, keyword: &str, arguments: &[String], scope: &Scope) {
        if let Err(detail) = keywords::values(keyword, arguments) {
            self.problem(file, line, detail);
        }
        if matches!(scope, Scope::Some(_)) && !keywords::is_matchable(keyword) {
            self.problem(file, line, format!("{keyword} may not stand in a Match block"));
        }
    }
}

/// `Include` names files below `/etc/ssh` unless it says otherwise.
fn absolute(pattern: &str) -> String {
    match pattern.starts_with('/') {
        true => pattern.to_owned(),
        false => format!("{DIRECTORY}/{pattern}"),
    }
}

fn criteria(arguments: &[String]) -> Result<Scope, String> {
    let is_all = |argument: &String| argument.eq_ignore_ascii_case("all");
    match arguments {
        [only] if is_all(only) => Ok(Scope::All),
        _ if arguments.first().is_some_and(is_all) => Err("Match all stands with other criteria".into()),
        _ => Ok(Scope::Some(arguments.join(" "))),
    }
}
