//! `coldfit report`.

use std::io::Write;
use std::path::{Path, PathBuf};

use ::batch::page::Page;

use super::CommandResult;
use crate::cli::batch::ReportCommand;
use crate::render::output::{Failure, Output};

/// Runs one of the report commands.
pub fn run(command: ReportCommand, output: &Output) -> CommandResult {
    match command {
        ReportCommand::Render { reports, output: file, title } => {
            render(&reports, file.as_deref(), &title, output)
        }
    }
}

fn render(reports: &[PathBuf], file: Option<&Path>, title: &str, output: &Output) -> CommandResult {
    let mut page = Page::new(title, crate::render::table::utc);
    for report in reports {
        ::batch::read_lines(report, &mut |line| page.add(line))?;
    }
    let html = page.html();
    match file {
        None => output.bytes(html.as_bytes())?,
        Some(path) => {
            // Whole or not at all: a browser that has the old page open keeps a page.
            let mut name = path.as_os_str().to_owned();
            name.push(".new");
            let partial = PathBuf::from(name);
            let written = std::fs::File::create(&partial)
                .and_then(|mut page| page.write_all(html.as_bytes()))
                .and_then(|()| std::fs::rename(&partial, path));
            if let Err(error) = written {
                let _ = std::fs::remove_file(&partial);
                return Err(Failure::host("write the page", path, &error));
            }
        }
    }
    Ok(0)
}
