//! The text forms.

/// One line of `modules.dep`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DepLine {
    /// Path below the module directory.
    pub(crate) path: String,
    /// Paths of everything it needs, the farthest last.
    pub(crate) deps: Vec<String>,
}

/// One line of `modules.alias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AliasLine {
    pub(crate) pattern: String,
    pub(crate) module: String,
}

/// One line of `modules.softdep`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SoftDep {
    pub(crate) module: String,
    /// Modules or aliases to load before.
    pub(crate) pre: Vec<String>,
    /// Modules or aliases to load after.
    pub(crate) post: Vec<String>,
}

/// Lines with content, comments left out.
pub(crate) fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_string)
        .collect()
}

/// `path: dep dep …`; old releases wrote absolute paths.
pub(crate) fn parse_deps(kver: &str, bytes: &[u8]) -> Vec<DepLine> {
    let prefix = format!("/lib/modules/{kver}/");
    let relative = |path: &str| path.strip_prefix(&prefix).unwrap_or(path).to_string();
    let parse = |line: &String| {
        let (path, deps) = line.split_once(':')?;
        Some(DepLine { path: relative(path), deps: deps.split_whitespace().map(relative).collect() })
    };
    lines(bytes).iter().filter_map(parse).collect()
}

/// `alias PATTERN MODULE`.
pub(crate) fn parse_aliases(bytes: &[u8]) -> Vec<AliasLine> {
    let parse = |line: &String| {
        let rest = line.strip_prefix("alias ")?;
        let (pattern, module) = rest.trim().rsplit_once(' ')?;
        Some(AliasLine { pattern: pattern.trim().to_string(), module: module.to_string() })
    };
    lines(bytes).iter().filter_map(parse).collect()
}

/// `softdep MODULE pre: A B post: C`.
pub(crate) fn parse_softdeps(bytes: &[u8]) -> Vec<SoftDep> {
    let parse = |line: &String| {
        let mut words = line.strip_prefix("softdep ")?.split_whitespace();
        let mut softdep = SoftDep { module: words.next()?.to_string(), ..SoftDep::default() };
        let mut is_post = None;
        for word in words {
            match (word, is_post) {
                ("pre:", _) => is_post = Some(false),
                ("post:", _) => is_post = Some(true),
                (name, Some(true)) => softdep.post.push(name.to_string()),
                (name, Some(false)) => softdep.pre.push(name.to_string()),
                // kmod ignores names before the first keyword.
                (_, None) => {}
            }
        }
        Some(softdep)
    };
    lines(bytes).iter().filter_map(parse).collect()
}

/// `weakdep MODULE DEP DEP …`: module and what it may use.
pub(crate) fn parse_weakdeps(bytes: &[u8]) -> Vec<(String, Vec<String>)> {
    let parse = |line: &String| {
        let mut words = line.strip_prefix("weakdep ")?.split_whitespace();
        Some((words.next()?.to_string(), words.map(str::to_string).collect()))
    };
    lines(bytes).iter().filter_map(parse).collect()
}
