//! `coldfit diff`: a real image before and after `fix`, and every kind of difference on a small one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says what it sees and fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use testkit::recipe::Image;

use support::{coldfit, image, text, tool};

/// The JSON of `diff`, which must end with `code`.
fn diff(old: &Path, new: &Path, more: &[&str], code: i32) -> Value {
    let mut arguments = vec!["--format", "json", "diff", old.to_str().unwrap(), new.to_str().unwrap()];
    arguments.extend(more);
    let output = coldfit(arguments);
    assert_eq!(output.status.code(), Some(code), "{}\n{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Path and how it differs.
fn paths(report: &Value) -> BTreeMap<String, String> {
    let field = |file: &Value, name: &str| file[name].as_str().unwrap().to_owned();
    let files = report["files"].as_array().unwrap();
    let found: BTreeMap<_, _> =
        files.iter().map(|file| (field(file, "path"), field(file, "change"))).collect();
    assert_eq!(found.len(), files.len(), "a path stands twice");
    found
}

fn differences(report: &Value, path: &str) -> BTreeSet<String> {
    let file = report["files"].as_array().unwrap().iter().find(|file| file["path"] == path).unwrap();
    let names = file["differences"].as_array().unwrap().iter();
    names.map(|found| found["what"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_fixed_image_differs_in_what_fix_says_it_changed() {
    let folder = tempfile::tempdir().unwrap();
    let before = image(Image::Mbr, folder.path());
    let after = folder.path().join("after.qcow2");
    fs::copy(&before, &after).unwrap();
    let same = diff(&before, &after, &[], 0);
    assert_eq!((paths(&same).len(), same["layers"].as_array().unwrap().len()), (0, 0));
    assert_eq!(coldfit([&"diff".into(), &before, &after]).stdout, b"");

    let fixed = coldfit(["--format", "json", "fix", "--profile", "kvm", after.to_str().unwrap()]);
    assert!(fixed.status.success(), "{}", text(&fixed.stderr));
    let fixed: Value = serde_json::from_slice(&fixed.stdout).unwrap();
    let edits = fixed["edits"].as_array().unwrap();
    let planned: BTreeSet<&str> = edits.iter().map(|edit| edit["path"].as_str().unwrap()).collect();
    let report = diff(&before, &after, &["--content"], 1);
    let found = paths(&report);
    assert_eq!(found.keys().map(String::as_str).collect::<BTreeSet<_>>(), planned);
    assert_eq!(report["layers"].as_array().unwrap().len(), 0);
    assert_eq!(report["counts"]["changed"], found.len());
    let fstab = report["files"].as_array().unwrap().iter().find(|file| file["path"] == "/etc/fstab").unwrap();
    let lines = fstab["diff"].as_str().unwrap();
    assert!(lines.contains("\n-/dev/sda1 ") && lines.contains("\n+UUID="), "{lines}");

    // The other way round the same files differ; below a path only those below it.
    assert_eq!(paths(&diff(&after, &before, &[], 1)), found);
    let below = paths(&diff(&before, &after, &["/etc", "/etc/default"], 1));
    let expected: BTreeMap<_, _> = found.into_iter().filter(|(path, _)| path.starts_with("/etc/")).collect();
    assert_eq!(below, expected);
    diff(&before, &after, &["/usr/bin"], 0);
    let missing = coldfit(["diff", before.to_str().unwrap(), after.to_str().unwrap(), "/no/such"]);
    assert_eq!(missing.status.code(), Some(5));
    assert!(text(&missing.stderr).contains("diff.path.not-found"), "{}", text(&missing.stderr));
}

fn set_field(image: &Path, path: &str, field: &str) {
    let request = format!("set_inode_field {path} {field}");
    tool("debugfs", ["-w", "-R", &request, image.to_str().unwrap()]);
}

/// A disk without a partition table: one ext4 filesystem made from a host tree.
fn disk(folder: &Path, name: &str, uuid: &str, prepare: impl Fn(&Path)) -> PathBuf {
    let tree = folder.join(format!("{name}-tree"));
    let put = |path: &str, content: &str| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    put("etc/os-release", "ID=debian\n");
    put("etc/fstab", "");
    put("sbin/init", "#!/bin/sh\n");
    put("etc/same", "same\n");
    put("etc/text", "one\ntwo\n");
    put("etc/mode", "x");
    put("etc/xattr", "x");
    put("etc/becomes-link", "x");
    put("etc/shadow", "root:$6$secret$old:1:\n");
    put("old/deep/file", "x");
    put("binary", "a\0b");
    std::os::unix::fs::symlink("/etc", tree.join("link")).unwrap();
    std::os::unix::fs::symlink("/outside", tree.join("dangling")).unwrap();
    prepare(&tree);
    let image = folder.join(format!("{name}.raw"));
    let arguments = ["-q", "-t", "ext4", "-E", "root_owner=0:0", "-U", uuid, "-d"];
    let paths = [tree.to_str().unwrap(), image.to_str().unwrap(), "24M"];
    tool("mke2fs", arguments.into_iter().chain(paths));
    // Whoever runs this, and with whatever umask.
    for field in ["mode 0100644", "uid 0", "gid 0"] {
        set_field(&image, "/etc/mode", field);
    }
    image
}

#[test]
fn every_kind_of_difference_is_named_and_links_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let old = disk(folder.path(), "old", "11111111-2222-3333-4444-555555555555", |_| {});
    let new = disk(folder.path(), "new", "11111111-2222-3333-4444-666666666666", |tree| {
        fs::write(tree.join("etc/text"), "one\n2\n").unwrap();
        fs::write(tree.join("etc/shadow"), "root:$6$secret$new:1:\n").unwrap();
        fs::write(tree.join("binary"), "a\0c").unwrap();
        fs::remove_file(tree.join("etc/becomes-link")).unwrap();
        std::os::unix::fs::symlink("same", tree.join("etc/becomes-link")).unwrap();
        fs::remove_file(tree.join("link")).unwrap();
        std::os::unix::fs::symlink("/old", tree.join("link")).unwrap();
        fs::remove_dir_all(tree.join("old")).unwrap();
        fs::create_dir_all(tree.join("new/deep")).unwrap();
        fs::write(tree.join("new/deep/file"), "added\n").unwrap();
    });
    set_field(&new, "/etc/mode", "mode 0100600");
    set_field(&new, "/etc/mode", "uid 7");
    tool("debugfs", ["-w", "-R", "ea_set /etc/xattr user.note changed", new.to_str().unwrap()]);
    let report = diff(&old, &new, &["--content"], 1);
    let found = paths(&report);
    // The host's own diff has seen the same trees; attributes are none of its business.
    let mut judged = Command::new("diff");
    judged.args(["-rq", "--no-dereference"]);
    judged.arg(folder.path().join("old-tree")).arg(folder.path().join("new-tree"));
    let judged = text(&testkit::tool::output(&mut judged).unwrap().stdout);
    for (path, change) in &found {
        let name = path.rsplit('/').next().unwrap();
        let is_below = ["/old/", "/new/"].iter().any(|top| path.starts_with(top));
        let has_attributes_only = matches!(path.as_str(), "/etc/mode" | "/etc/xattr");
        assert!(is_below || has_attributes_only || judged.contains(name), "{path} {change}\n{judged}");
    }
    let expected = [
        ("/binary", "changed"),
        ("/etc/becomes-link", "changed"),
        ("/etc/mode", "changed"),
        ("/etc/shadow", "changed"),
        ("/etc/text", "changed"),
        ("/etc/xattr", "changed"),
        ("/link", "changed"),
        ("/new", "added"),
        ("/new/deep", "added"),
        ("/new/deep/file", "added"),
        ("/old", "removed"),
        ("/old/deep", "removed"),
        ("/old/deep/file", "removed"),
    ];
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(path, change)| ((*path).to_owned(), (*change).to_owned())).collect();
    assert_eq!(found, expected);
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(differences(&report, "/etc/mode"), set(&["mode", "owner"]));
    assert_eq!(differences(&report, "/etc/xattr"), set(&["xattr user.note"]));
    assert_eq!(differences(&report, "/link"), set(&["target"]));
    assert_eq!(differences(&report, "/binary"), set(&["content"]));
    assert!(differences(&report, "/etc/becomes-link").contains("kind"));
    assert_eq!(report["layers"].as_array().unwrap().len(), 1);
    assert_eq!(report["layers"][0]["what"], "whole disk uuid");
    let all = report.to_string();
    assert!(
        all.contains("-two\\n+2\\n") && all.contains("Binary file /binary") && all.contains("+added\\n"),
        "{all}"
    );
    assert!(!all.contains("secret") && !all.contains("\\u001b"), "{all}");

    let shown = text(&coldfit(["diff", old.to_str().unwrap(), new.to_str().unwrap()]).stdout);
    for line in [
        "disk: whole disk uuid: 11111111-2222-3333-4444-555555555555 is now 11111111-2222-3333-4444-666666666666\n",
        "~ /etc/mode: mode 0644 is now 0600, owner 0:0 is now 7:0\n",
        "~ /link: target /etc is now /old\n",
        "- /old/deep/\n",
        "+ /new/deep/file\n",
        "~ /binary: content",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
}
