//! The servers that systemd-timesyncd asks (timesyncd.conf(5)).

use vfs::VfsError;

use crate::{Files, Lines};

/// Directories of drop-ins; a name in an earlier one hides the same name in a later one.
const DIRECTORIES: [&str; 4] = [
    "/etc/systemd/timesyncd.conf.d",
    "/run/systemd/timesyncd.conf.d",
    "/usr/local/lib/systemd/timesyncd.conf.d",
    "/usr/lib/systemd/timesyncd.conf.d",
];
/// Main files, of which the first that exists is read.
const MAIN: [&str; 4] = [
    "/etc/systemd/timesyncd.conf",
    "/run/systemd/timesyncd.conf",
    "/usr/local/lib/systemd/timesyncd.conf",
    "/usr/lib/systemd/timesyncd.conf",
];

/// What `NTP=` comes to: lines add up, an empty one takes back all before it.
pub fn servers(files: &dyn Files) -> Result<Vec<String>, VfsError> {
    let mut servers = Vec::new();
    for main in MAIN {
        if let Some(text) = files.text(main)? {
            add(&text, &mut servers);
            break;
        }
    }
    let mut drop_ins: Vec<(String, String)> = Vec::new();
    for directory in DIRECTORIES {
        for name in files.names(directory)? {
            if name.ends_with(".conf")
                && !name.starts_with('.')
                && !drop_ins.iter().any(|(known, _)| *known == name)
            {
                drop_ins.push((name.clone(), format!("{directory}/{name}")));
            }
        }
    }
    drop_ins.sort();
    for (_, path) in drop_ins {
        add(&files.text(&path)?.unwrap_or_default(), &mut servers);
    }
    Ok(servers)
}

fn add(text: &str, servers: &mut Vec<String>) {
    let mut is_time = false;
    for (_, line) in Lines::parse(text.as_bytes()).iter() {
        let line = line.trim();
        if line.starts_with('[') {
            is_time = line == "[Time]";
        }
        let Some((key, value)) = line.split_once('=').filter(|_| is_time) else { continue };
        // The old name of the key is still read.
        if !matches!(key.trim(), "NTP" | "Servers") {
            continue;
        }
        if value.trim().is_empty() {
            servers.clear();
        }
        servers.extend(value.split_whitespace().map(str::to_owned));
    }
}

/// A drop-in that says these servers and no others.
pub fn drop_in(servers: &[String]) -> String {
    format!("[Time]\nNTP=\nNTP={}\n", servers.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryFiles;

    #[test]
    fn drop_ins_add_and_take_back() {
        let mut files = MemoryFiles::new([
            ("/etc/systemd/timesyncd.conf", "[Time]\n#NTP=x\nNTP=a b\n[Other]\nNTP=c\n"),
            ("/etc/systemd/timesyncd.conf.d/20-x.conf", "[Time]\nNTP = d\n"),
            ("/usr/lib/systemd/timesyncd.conf.d/10-y.conf", "[Time]\nNTP=\nFallbackNTP=z\n"),
        ]);
        assert_eq!(servers(&files).unwrap(), ["d"]);
        files.put("/etc/systemd/timesyncd.conf.d/99-z.conf", drop_in(&["e".into(), "f".into()]));
        assert_eq!(servers(&files).unwrap(), ["e", "f"]);
    }
}
