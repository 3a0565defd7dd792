//! Running reference tools: a missing or failing tool is an error, never a skip.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::error::{LabError, Result};

/// How much of a failing tool's output an error repeats.
const OUTPUT_TAIL: usize = 4000;

/// A command with its arguments, a fixed locale and the system directories on `PATH`.
pub fn command<A: AsRef<OsStr>>(tool: &str, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(tool);
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .args(args)
        .env("LC_ALL", "C.UTF-8")
        .env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"))
        .stdin(Stdio::null());
    command
}

/// Runs a tool to its end and returns what it printed on standard output.
pub fn run<A: AsRef<OsStr>>(tool: &str, args: impl IntoIterator<Item = A>) -> Result<String> {
    finish(&mut command(tool, args))
}

/// Runs a prepared command to its end and returns what it printed on standard output.
pub fn finish(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(command, &output))
}

/// Runs a prepared command whatever its exit status is.
pub fn output(command: &mut Command) -> Result<Output> {
    command.output().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            LabError::MissingTool { tool: command.get_program().to_string_lossy().into_owned() }
        }
        _ => LabError::Io { path: command.get_program().into(), source },
    })
}

/// Unmounts. Whatever else looks at the machine's mounts may hold one for a moment (`EBUSY`), so that is waited for.
pub fn unmount(at: &Path) -> Result<()> {
    let mut command = command("umount", [at]);
    for _ in 0..100 {
        let output = output(&mut command)?;
        if output.status.success() {
            return Ok(());
        }
        if !String::from_utf8_lossy(&output.stderr).contains("busy") {
            return Err(failed(&command, &output));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    finish(&mut command).map(drop)
}

fn failed(command: &Command, output: &Output) -> LabError {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    LabError::Tool {
        command: format!("{command:?}"),
        status: output.status.to_string(),
        output: tail(&text, OUTPUT_TAIL).to_owned(),
    }
}

/// The last `limit` bytes of `text`, cut at a character.
pub fn tail(text: &str, limit: usize) -> &str {
    let mut start = text.len().saturating_sub(limit);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named() {
        let error = run("coldfit-no-such-tool", ["x"]).unwrap_err();
        assert!(matches!(error, LabError::MissingTool { tool } if tool == "coldfit-no-such-tool"));
    }

    #[test]
    fn a_failing_tool_shows_its_output() {
        let error = run("sh", ["-c", "echo reason >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("reason") && error.contains('3'), "{error}");
    }

    #[test]
    fn tail_keeps_whole_characters() {
        assert_eq!(tail("aéé", 3), "é");
    }
}
