//! Names of results: `{stem}.{ext}`.

use std::path::Path;

use crate::BatchError;

/// A naming template, parsed.
#[derive(Debug, Clone)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Name,
    Stem,
    Extension,
    Index,
    Profile,
}

impl Template {
    /// Parses `{name}`, `{stem}`, `{ext}`, `{index}`, `{profile}` and text between them.
    pub fn parse(template: &str) -> Result<Self, BatchError> {
        let wrong = |reason: String| BatchError::Template { template: template.to_owned(), reason };
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let (text, from) = rest.split_at(open);
            let close = from.find('}').ok_or_else(|| wrong("a { has no }".into()))?;
            parts.push(Part::Text(text.to_owned()));
            parts.push(match &from[1..close] {
                "name" => Part::Name,
                "stem" => Part::Stem,
                "ext" => Part::Extension,
                "index" => Part::Index,
                "profile" => Part::Profile,
                other => return Err(wrong(format!("{{{other}}} means nothing"))),
            });
            rest = &from[close + 1..];
        }
        parts.push(Part::Text(rest.to_owned()));
        if template.contains('/') {
            return Err(wrong("a name has no /".into()));
        }
        if !parts.iter().any(|part| matches!(part, Part::Name | Part::Stem | Part::Index)) {
            return Err(wrong("all results would have the same name".into()));
        }
        Ok(Self { parts })
    }

    /// The name for one image; `extension` is that of the result, `index` counts from 0.
    pub fn name(&self, image: &Path, extension: &str, index: usize, profile: Option<&str>) -> String {
        let lossy = |text: Option<&std::ffi::OsStr>| text.unwrap_or_default().to_string_lossy().into_owned();
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Name => lossy(image.file_name()),
            Part::Stem => lossy(image.file_stem()),
            Part::Extension => extension.to_owned(),
            Part::Index => format!("{:06}", index + 1),
            // A profile may be a file; its stem is what people call it.
            Part::Profile => profile.map(|name| lossy(Path::new(name).file_stem())).unwrap_or_default(),
        };
        self.parts.iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = |template: &str| {
            let template = Template::parse(template).unwrap();
            template.name(Path::new("/a/web.1.qcow2"), "raw", 6, Some("/p/mine.toml"))
        };
        assert_eq!(name("{stem}.{ext}"), "web.1.raw");
        assert_eq!(name("{index}-{name}"), "000007-web.1.qcow2");
        assert_eq!(name("{stem}-{profile}.{ext}"), "web.1-mine.raw");
        for wrong in ["x", "{stem", "{foo}{stem}", "a/{stem}", "{profile}.{ext}"] {
            assert_eq!(report::Diagnose::code(&Template::parse(wrong).unwrap_err()), "batch.output.template");
        }
    }
}
