//! Upstart's jobs: init(5), "manual" and override files.

use vfs::VfsError;

use crate::Files;
use crate::files::read_tolerant;
use crate::units::at;

/// True when the job is there and starts by an event; `None` when it is not there.
pub fn starts(files: &dyn Files, name: &str) -> Result<Option<bool>, VfsError> {
    let Some(job) = text(files, &format!("/etc/init/{name}.conf"))? else { return Ok(None) };
    let whole = format!("{job}\n{}", text(files, &override_of(name))?.unwrap_or_default());
    let mut starts = false;
    for line in whole.lines().map(str::trim) {
        // The last stanza of the two wins.
        if line == "manual" {
            starts = false;
        } else if line.strip_prefix("start").is_some_and(|rest| rest.trim_start().starts_with("on ")) {
            starts = true;
        }
    }
    Ok(Some(starts))
}

/// Path of the override file and its text that keeps the job from starting; `None` when it does not start.
pub fn disable(files: &dyn Files, name: &str) -> Result<Option<(String, String)>, VfsError> {
    if starts(files, name)? != Some(true) {
        return Ok(None);
    }
    let path = override_of(name);
    let mut text = text(files, &path)?.unwrap_or_default();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str("manual\n");
    Ok(Some((path, text)))
}

/// Path of the override file and its text without `manual`; `None` where that changes nothing.
pub fn enable(files: &dyn Files, name: &str) -> Result<Option<(String, String)>, VfsError> {
    if starts(files, name)? != Some(false) {
        return Ok(None);
    }
    let path = override_of(name);
    let Some(text) = text(files, &path)? else { return Ok(None) };
    let kept: String = text.split_inclusive('\n').filter(|line| line.trim() != "manual").collect();
    Ok((kept != text).then_some((path, kept)))
}

fn override_of(name: &str) -> String {
    format!("/etc/init/{name}.override")
}

fn text(files: &dyn Files, path: &str) -> Result<Option<String>, VfsError> {
    let content = read_tolerant(files, &at(path))?;
    Ok(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryFiles;

    #[test]
    fn an_override_switches_a_job() {
        let mut files = MemoryFiles::new([("/etc/init/ssh.conf", "start on runlevel [2345]\nexec sshd\n")]);
        assert_eq!(starts(&files, "ssh").unwrap(), Some(true));
        assert_eq!(starts(&files, "none").unwrap(), None);
        files.put("/etc/init/ssh.override", "nice 5");
        let (path, text) = disable(&files, "ssh").unwrap().unwrap();
        assert_eq!((path.as_str(), text.as_str()), ("/etc/init/ssh.override", "nice 5\nmanual\n"));
        files.put(&path, text);
        assert_eq!(starts(&files, "ssh").unwrap(), Some(false));
        assert_eq!(disable(&files, "ssh").unwrap(), None);
        let (_, text) = enable(&files, "ssh").unwrap().unwrap();
        assert_eq!(text, "nice 5\n");
    }
}
