//! e2fsprogs as the judge of everything that writes ext2, ext3 or ext4.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use tempfile::{NamedTempFile, TempPath};

use crate::error::{LabError, Result};
use crate::tool;

/// Variables that make two runs of e2fsprogs give the same bytes, as far as the release allows.
const EPOCH: (&str, &str) = ("SOURCE_DATE_EPOCH", "1700000000");

/// Makes an empty sparse image of `size` bytes and runs `mke2fs` with `args` on it. The file goes with the path.
pub fn mkfs(args: &[&str], size: u64) -> Result<TempPath> {
    let file = NamedTempFile::with_prefix("coldfit-ext4-").map_err(|source| io(Path::new("/tmp"), source))?;
    file.as_file().set_len(size).map_err(|source| io(file.path(), source))?;
    let path = file.into_temp_path();
    let mut command = tool::command("mke2fs", ["-q", "-F"]);
    command.env(EPOCH.0, EPOCH.1).args(args).arg(&path);
    tool::finish(&mut command)?;
    Ok(path)
}

/// A copy of an image, as sparse as the image.
pub fn copy(image: &Path) -> Result<TempPath> {
    let path = NamedTempFile::with_prefix("coldfit-ext4-")
        .map_err(|source| io(Path::new("/tmp"), source))?
        .into_temp_path();
    tool::finish(tool::command("cp", ["--sparse=always"]).arg(image).arg(&path))?;
    Ok(path)
}

/// Judges an image by `e2fsck -fn`: exit status 0, and nothing printed but the passes and the summary.
///
/// Exit 0 alone proves too little: wrong totals in the superblock, for example, are printed and forgiven.
pub fn e2fsck_clean(image: &Path) -> Result<()> {
    let mut command = tool::command("e2fsck", ["-fn"]);
    let output = tool::output(command.arg(image))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_expected = |line: &str| {
        let is_pass = line.strip_prefix("Pass ").is_some_and(|rest| {
            let mut parts = rest.splitn(2, ": ");
            let number = parts.next().unwrap_or_default();
            matches!(number, "1" | "2" | "3" | "4" | "5")
                && parts.next().is_some_and(|what| what.starts_with("Checking"))
        });
        let is_summary = line.contains(" files (") && line.ends_with(" blocks");
        line.is_empty() || is_pass || is_summary
    };
    let odd: Vec<&str> = text.lines().filter(|line| !is_expected(line)).collect();
    if output.status.success() && odd.is_empty() {
        return Ok(());
    }
    Err(LabError::Proof {
        image: image.display().to_string(),
        claim: "e2fsck -fn is clean and silent".into(),
        found: format!(
            "{}\n{}{}",
            output.status,
            tool::tail(&text, 4000),
            tool::tail(&String::from_utf8_lossy(&output.stderr), 1000)
        ),
    })
}

/// Runs `debugfs` commands, one a line, reading only, and returns what they print.
pub fn debugfs(image: &Path, commands: &str) -> Result<String> {
    run_debugfs(image, commands, false)
}

/// Runs `debugfs` commands that may write.
pub fn debugfs_write(image: &Path, commands: &str) -> Result<String> {
    run_debugfs(image, commands, true)
}

fn run_debugfs(image: &Path, commands: &str, writes: bool) -> Result<String> {
    let mut script = NamedTempFile::new().map_err(|source| io(Path::new("/tmp"), source))?;
    script.write_all(commands.as_bytes()).map_err(|source| io(script.path(), source))?;
    let mut command = tool::command("debugfs", writes.then_some("-w"));
    command.env(EPOCH.0, EPOCH.1).arg("-f").arg(script.path()).arg(image);
    let output = tool::output(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    // Commands are echoed with the prompt in front.
    Ok(text.lines().filter(|line| !line.starts_with("debugfs:")).collect::<Vec<_>>().join("\n"))
}

/// Content of a file of the image as `debugfs dump` writes it.
pub fn dump(image: &Path, guest_path: &str) -> Result<Vec<u8>> {
    let out = NamedTempFile::new().map_err(|source| io(Path::new("/tmp"), source))?;
    debugfs(image, &format!("dump \"{guest_path}\" {}\n", out.path().display()))?;
    std::fs::read(out.path()).map_err(|source| io(out.path(), source))
}

/// A value of `dumpe2fs -h` by its name, for example `Free blocks`.
pub fn superblock_value(image: &Path, name: &str) -> Result<String> {
    let text = tool::run("dumpe2fs", [std::ffi::OsStr::new("-h"), image.as_os_str()])?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.map(|value| value.trim().to_owned()).ok_or_else(|| LabError::Proof {
        image: image.display().to_string(),
        claim: format!("dumpe2fs -h prints {name}"),
        found: tool::tail(&text, 1000).to_owned(),
    })
}

/// An image opened for reading and writing by the block layer.
pub fn device(image: &Path) -> Result<std::sync::Arc<block::FileDevice>> {
    let file = File::options().read(true).write(true).open(image).map_err(|source| io(image, source))?;
    let device = block::FileDevice::new(file, image);
    device.map(std::sync::Arc::new).map_err(|error| io(image, std::io::Error::other(error.to_string())))
}

fn io(path: &Path, source: std::io::Error) -> LabError {
    LabError::Io { path: path.into(), source }
}

/// Mounts an image through the kernel's loop device, writable, and runs `work` on the mount point.
/// `None` without root: then nobody asked the kernel.
pub fn with_kernel_mount<T>(image: &Path, work: impl FnOnce(&Path) -> T) -> Result<Option<T>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let dir = tempfile::tempdir().map_err(|source| io(Path::new("/tmp"), source))?;
    tool::finish(tool::command("mount", ["-o", "loop"]).arg(image).arg(dir.path()))?;
    let guard = Unmount(dir.path().to_owned());
    let result = work(dir.path());
    drop(guard);
    Ok(Some(result))
}

/// Unmounts also when the work on a mount panics.
struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = tool::unmount(&self.0);
    }
}
