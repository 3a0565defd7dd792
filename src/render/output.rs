//! Standard output and error: text for people or one JSON document.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use report::{Class, Diagnose, Diagnostic};
use serde::Serialize;

use crate::cli::args::{Format, OutputArgs};

/// A command that did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// Code, class, text, remedy.
    pub diagnostic: Diagnostic,
    /// Which image, where one is meant.
    pub image: Option<PathBuf>,
}

impl<E: Diagnose> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { diagnostic: Diagnostic::of(&error), image: None }
    }
}

impl Failure {
    /// A failure of the command line itself.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new("usage", Class::Usage, message)
    }

    /// A failure with its own code.
    pub fn new(code: &'static str, class: Class, message: impl Into<String>) -> Self {
        Self { diagnostic: Diagnostic { code, class, message: message.into(), hint: None }, image: None }
    }

    /// A failed operation on the host.
    pub fn host(operation: &str, path: &Path, error: &io::Error) -> Self {
        Self::new("host.io", Class::Environment, format!("{}: cannot {operation}: {error}", path.display()))
    }

    /// Says what to do next.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.diagnostic.hint = Some(hint.into());
        self
    }

    /// Names the image, unless it is named already.
    pub fn at(mut self, image: &Path) -> Self {
        self.image.get_or_insert_with(|| image.to_owned());
        self
    }
}

/// Adds the image to a failure on its way up.
pub trait AtImage<T> {
    /// Names the image in the failure.
    fn at_image(self, image: &Path) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> AtImage<T> for Result<T, E> {
    fn at_image(self, image: &Path) -> Result<T, Failure> {
        self.map_err(|error| error.into().at(image))
    }
}

/// What every command writes to.
pub struct Output {
    /// Text or JSON.
    pub format: Format,
    /// Results and errors only.
    pub quiet: bool,
}

impl Output {
    /// From the arguments.
    pub fn new(args: &OutputArgs) -> Self {
        Self { format: args.format, quiet: args.quiet }
    }

    /// True when JSON is asked for.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints bytes as they are.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        written(stdout.write_all(bytes).and_then(|()| stdout.flush()))
    }

    /// Prints text; colours only reach a terminal.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = anstream::stdout();
        written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
    }

    /// Prints one JSON document.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new("report.encode", Class::Bug, error.to_string()))?;
        text.push('\n');
        self.text(&text)
    }

    /// Prints `value` as JSON, or what `text` makes of it.
    pub fn either<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        if self.is_json() { self.json(value) } else { self.text(&text(value)) }
    }

    /// Says something beside the result, on standard error.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let mut stderr = anstream::stderr();
            // Nothing can be done when standard error is closed.
            let _ = writeln!(stderr, "{}", single_line(text));
        }
    }

    /// Reports a failure on standard error.
    pub fn failure(&self, failure: &Failure) {
        let mut stderr = anstream::stderr();
        let text = if self.is_json() {
            let value = serde_json::json!({ "error": failure.diagnostic, "image": failure.image });
            value.to_string()
        } else {
            let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
            let diagnostic = &failure.diagnostic;
            let image = failure.image.as_ref().map(|path| path.display().to_string());
            // An error that names the image itself need not name it twice.
            let place = image.filter(|image| !diagnostic.message.contains(image.as_str()));
            let place = place.map(|image| format!("{image}: ")).unwrap_or_default();
            let hint = diagnostic.hint.as_ref().map(|hint| format!("\n  {hint}")).unwrap_or_default();
            format!(
                "{red}error[{}]{red:#}: {place}{}{hint}",
                diagnostic.code,
                single_line(&diagnostic.message)
            )
        };
        let _ = writeln!(stderr, "{text}");
    }
}

/// Text from images must not steer the terminal: control characters are printed escaped.
pub fn single_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() && c != '\t' { c.escape_default().collect() } else { vec![c] })
        .collect()
}

/// For JSON: text without its colours.
pub fn plain<S: serde::Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_ref().map(|text| anstream::adapter::strip_str(text).to_string()).serialize(serializer)
}

/// Code of the pseudo failure that a closed reader makes; `main` turns it into success.
pub const READER_GONE: &str = "output.reader-gone";

fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(READER_GONE, Class::Environment, "the reader is gone"),
        _ => Failure::new("output.write", Class::Environment, format!("cannot write the result: {error}")),
    })
}
