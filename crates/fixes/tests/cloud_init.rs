//! The rule on cloud-init, judged by cloud-init's own reader and by its `ds-identify`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cloudspec::Profile;
use coldfit_fixes::{Finding, Plan, Selection, State, apply, plan};
use support::*;
use testkit::{DirFs, deb, tool};
use vfs::{FileKind, GuestTree};

const RECIPE: &str = "users: [default]\nuser: {name: root, lock_passwd: False}\ndisable_root: false\n\
    preserve_hostname: false\nsyslog_fix_perms: root:root\ndatasource_list: [ AliYun ]\ndatasource:\n  \
    AliYun: {support_xen: false, timeout: 5, max_wait: 60}\n";
const OWN: &str = "/etc/cloud/cloud.cfg.d/99-aliyun.cfg";
/// In the shape of Ubuntu's; a comment, a list at the depth of its key, settings that must stay.
const MAIN: &str = "# The top level settings\nusers:\n   - default\ndisable_root: true\npreserve_hostname: false\n\
    cloud_init_modules:\n - migrator\n - seed_random\nsystem_info:\n   distro: debian\n   default_user:\n     name: debian\n\
    \x20    lock_passwd: True\n";
/// Ubuntu's server installer.
const INSTALLER: &str = "datasource:\n  None:\n    metadata: {instance-id: 1b6e}\n    userdata_raw: \"#cloud-config\\n\\\n    \
    growpart: {mode: 'off'}\\n\"\ndatasource_list: [None]\n";

fn profile(ssh_pwauth: &str) -> Profile {
    let text = format!(
        "schema = 1\nid = \"t\"\ntitle = \"t\"\n[[rule]]\nid = \"r\"\nseverity = \"must\"\nsummary = \"s\"\n\
         source = \"x\"\ndate = \"2026-11-24\"\nkind = \"cloud-init\"\ndatasources = [\"AliYun\"]\n\
         drop-in = \"99-aliyun.cfg\"\nssh-pwauth = \"{ssh_pwauth}\"\ncontent = '''\n{RECIPE}'''\n"
    );
    Profile::parse(&text, "test").unwrap()
}

fn cloud(files: &[(&str, &str)]) -> DirFs {
    let mut fs = guest();
    fs.add_file("/usr/bin/cloud-init", "").add_file("/etc/cloud/cloud.cfg", MAIN);
    for (path, content) in files {
        fs.add_file(path, content);
    }
    fs
}

fn planned(tree: &GuestTree, profile: &Profile) -> Plan {
    let model = guest::inspect(tree, &devices()).unwrap();
    plan(tree, &devices(), &model, profile, &Selection::default()).unwrap()
}

/// Applies the plan; the second run changes nothing.
fn mend_with(fs: DirFs, profile: &Profile) -> (Finding, GuestTree) {
    let mut tree = fs.into_tree();
    let first = planned(&tree, profile);
    assert_eq!(first.findings[0].state, State::Fixable, "{:?}", first.findings);
    apply(&first.edits, &mut tree, NOW).unwrap();
    let second = planned(&tree, profile);
    assert_eq!((second.edits.len(), second.findings[0].state), (0, State::Holds), "{:?}", second.findings);
    (first.findings.into_iter().next().unwrap(), tree)
}

fn mend(fs: DirFs) -> (Finding, GuestTree) {
    mend_with(fs, &profile("unset"))
}

fn has(tree: &GuestTree, file: &str) -> bool {
    tree.exists(&path(file)).unwrap()
}

/// `/etc/cloud` of the tree below a host folder.
fn put_on_host(tree: &GuestTree, directory: &str, root: &Path) {
    let host = root.join(directory.trim_start_matches('/'));
    fs::create_dir_all(&host).unwrap();
    for name in tree.list(&path(directory)).unwrap() {
        let at = format!("{directory}/{}", String::from_utf8(name).unwrap());
        match tree.stat(&path(&at)).unwrap().kind {
            FileKind::Directory => put_on_host(tree, &at, root),
            _ => fs::write(root.join(at.trim_start_matches('/')), content(tree, &at)).unwrap(),
        }
    }
}

/// What cloud-init itself makes of the files: its merged configuration as JSON of some keys.
fn merged(tree: &GuestTree, keys: &[&str]) -> String {
    let package = deb::cached("cloud-init").unwrap();
    let root = tempfile::tempdir().unwrap();
    put_on_host(tree, "/etc/cloud", root.path());
    let script = "import sys, json\nsys.path.insert(0, sys.argv[1])\nfrom cloudinit import util\n\
        c = util.read_conf_with_confd(sys.argv[2])\n\
        print(json.dumps({k: c.get(k) for k in sys.argv[3:]}, sort_keys=True))";
    let modules = package.join("usr/lib/python3/dist-packages");
    let mut command = tool::command("python3", ["-c", script]);
    command.arg(modules).arg(root.path().join("etc/cloud/cloud.cfg")).args(keys);
    tool::finish(&mut command).unwrap().trim().to_owned()
}

/// Exit status of the real `ds-identify` and the data sources that it hands on.
fn identified(tree: &GuestTree) -> (i32, String) {
    let package = deb::cached("cloud-init").unwrap();
    let root = tempfile::tempdir().unwrap();
    put_on_host(tree, "/etc/cloud", root.path());
    fs::create_dir_all(root.path().join("proc")).unwrap();
    fs::create_dir_all(root.path().join("run")).unwrap();
    fs::write(root.path().join("proc/cmdline"), "root=UUID=x ro\n").unwrap();
    let mut command = tool::command("sh", [package.join("usr/lib/cloud-init/ds-identify"), "--force".into()]);
    // Below the folder nothing of this machine is seen.
    command.env("PATH_ROOT", root.path()).env("DI_LOG", "stderr").env("UNAME_MACHINE", "x86_64");
    let output = tool::output(&mut command).unwrap();
    let result = fs::read_to_string(root.path().join("run/cloud-init/cloud.cfg")).unwrap_or_default();
    let list =
        result.lines().find_map(|line| line.trim().strip_prefix("datasource_list: ")).unwrap_or_default();
    (output.status.code().unwrap(), list.to_owned())
}

const KEYS: [&str; 6] = ["datasource", "datasource_list", "disable_root", "system_info", "user", "users"];

#[test]
fn the_recipe_comes_into_force_over_everything_else() {
    let files = [
        (
            "/etc/cloud/cloud.cfg.d/05_logging.cfg",
            "output: {all: '| tee -a /var/log/cloud-init-output.log'}\n",
        ),
        (
            "/etc/cloud/cloud.cfg.d/90_dpkg.cfg",
            "# to update this file, run dpkg-reconfigure cloud-init\ndatasource_list: [ NoCloud, ConfigDrive, Ec2, None ]\n",
        ),
        ("/etc/cloud/cloud.cfg.d/99-installer.cfg", INSTALLER),
        (
            "/etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg",
            "network: {config: disabled}\n",
        ),
        (
            "/etc/cloud/cloud.cfg.d/zz-late.cfg",
            "# mine\ndatasource_list:\n- Ec2\n- None\nlocale: C\ndisable_root: yes\n",
        ),
        ("/etc/cloud/cloud-init.disabled", ""),
        ("/etc/cloud/ds-identify.cfg", "# policy\npolicy: disabled\ndatasource: Ec2\n"),
    ];
    let before = cloud(&files).into_tree();
    assert_eq!(identified(&before).0, 1, "ds-identify runs cloud-init already");
    let mut fs = cloud(&files);
    fs.add_symlink("/etc/systemd/system/cloud-init.service", "/dev/null");
    fs.add_file("/usr/lib/systemd/system/cloud-init.service", "[Install]\nWantedBy=cloud-init.target\n");
    fs.add_file("/boot/grub/grub.cfg", grub_cfg("root=/dev/sda1 cloud-init=disabled ro"));
    fs.add_file("/etc/default/grub", "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX=\"quiet cloud-init=disabled\"\n");
    let (found, tree) = mend(fs);
    assert_eq!(content(&tree, OWN), RECIPE);
    for gone in [
        "/etc/cloud/cloud-init.disabled",
        "/etc/cloud/cloud.cfg.d/99-installer.cfg",
        "/etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg",
    ] {
        assert!(!has(&tree, gone), "{gone}");
    }
    assert_eq!(
        content(&tree, "/etc/cloud/cloud.cfg.d/zz-late.cfg"),
        "# mine\n# datasource_list:\n# - Ec2\n# - None\nlocale: C\n# disable_root: yes\n"
    );
    assert_eq!(
        content(&tree, "/etc/cloud/ds-identify.cfg"),
        "# policy\n# policy: disabled\n# datasource: Ec2\n"
    );
    assert!(!content(&tree, "/boot/grub/grub.cfg").contains("cloud-init"));
    assert_eq!(content(&tree, "/etc/default/grub"), "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX=\"quiet\"\n");
    assert!(tree.resolve_no_follow(&path("/etc/systemd/system/cloud-init.service")).is_err());
    assert_eq!(content(&tree, "/etc/cloud/cloud.cfg"), MAIN);
    assert!(found.evidence.len() >= 10, "{found:?}");
    assert_eq!(
        merged(&tree, &KEYS),
        "{\"datasource\": {\"AliYun\": {\"max_wait\": 60, \"support_xen\": false, \"timeout\": 5}}, \
         \"datasource_list\": [\"AliYun\"], \"disable_root\": false, \"system_info\": {\"default_user\": \
         {\"lock_passwd\": true, \"name\": \"debian\"}, \"distro\": \"debian\"}, \"user\": {\"lock_passwd\": false, \
         \"name\": \"root\"}, \"users\": [\"default\"]}"
    );
    assert_eq!(identified(&tree), (0, "[ AliYun, None ]".into()));
}

#[test]
fn the_login_policy_is_said_to_cloud_init_too() {
    let files = [("/etc/cloud/cloud.cfg.d/99-zz.cfg", "ssh_pwauth: 1\n")];
    let (_, tree) = mend_with(cloud(&files), &profile("false"));
    assert_eq!(content(&tree, OWN), format!("{RECIPE}ssh_pwauth: false\n"));
    assert_eq!(content(&tree, files[0].0), "# ssh_pwauth: 1\n");
    assert_eq!(merged(&tree, &["ssh_pwauth"]), "{\"ssh_pwauth\": false}");
    let (_, kept) = mend(cloud(&files));
    assert_eq!(merged(&kept, &["ssh_pwauth"]), "{\"ssh_pwauth\": 1}");
}

#[test]
fn what_is_in_force_already_needs_no_file() {
    let other = cloud(&[("/etc/cloud/cloud.cfg.d/99-zzz-mine.cfg", RECIPE)]).into_tree();
    let found = planned(&other, &profile("unset"));
    assert_eq!((found.edits.len(), found.findings[0].state), (0, State::Holds), "{:?}", found.findings);
    // A list over several lines is in force for cloud-init and not seen by ds-identify.
    let spread = RECIPE.replace("[ AliYun ]", "\n- AliYun");
    let (_, tree) = mend(cloud(&[("/etc/cloud/cloud.cfg.d/99-zzz-mine.cfg", spread.as_str())]));
    assert_eq!(identified(&tree), (0, "[ AliYun, None ]".into()));
}

#[test]
fn other_settings_in_the_drop_in_stay() {
    let mine = "# mine\nlocale: C\ndatasource_list: [ Ec2 ]\n";
    let (_, tree) = mend(cloud(&[(OWN, mine)]));
    assert_eq!(content(&tree, OWN), format!("# mine\nlocale: C\n# datasource_list: [ Ec2 ]\n{RECIPE}"));
    assert_eq!(
        merged(&tree, &["datasource_list", "locale"]),
        "{\"datasource_list\": [\"AliYun\"], \"locale\": \"C\"}"
    );
}

#[test]
fn files_that_cannot_be_read_are_named_with_their_line() {
    let refused = |name: &str, text: &str| {
        let tree = cloud(&[(name, text)]).into_tree();
        let found = planned(&tree, &profile("unset"));
        assert_eq!(found.findings[0].state, State::NotFixable, "{text}");
        assert!(found.edits.iter().all(|edit| edit.path != path(name)), "{text}");
        found.findings[0].evidence.join("\n")
    };
    let name = "/etc/cloud/cloud.cfg.d/50.cfg";
    assert!(refused(name, "a: 1\nb: [\n").starts_with(&format!("{name}:")));
    assert!(refused(name, "## template: jinja\na: {{ b }}\n").contains(":1: a template"));
    assert!(refused(name, "merge_how: list(append)\n").contains("merge_how"));
    assert!(refused(name, "- a\n").contains("not a mapping"));
    assert!(
        refused("/etc/cloud/cloud.cfg.d/zz.cfg", "{datasource_list: [Ec2], x: 1}\n")
            .contains("cannot be taken out")
    );
    let bomb: String = (0..30).map(|i| format!("k{}: &a{} [*a{i}, *a{i}]\n", i + 1, i + 1)).collect();
    assert!(refused(name, &format!("k0: &a0 [x, x]\n{bomb}")).contains(name));
    let deep = "[".repeat(100_000);
    assert!(refused(name, &format!("a: {deep}")).contains(name));
    let absent = guest().into_tree();
    assert_eq!(planned(&absent, &profile("unset")).findings[0].state, State::NotApplicable);
}

#[test]
fn files_are_merged_as_cloud_init_merges_them() {
    let main =
        "a: {x: 1, y: {p: 1, q: 2}}\nb: [1, 2]\nc: low\nd: {m: 1}\ne: {m: 1}\nf: {m: 1}\ng: 1\nh: null\n";
    let one = "a: {y: {q: 3, r: 4}}\nb: [3]\nd: text\ne: [1]\nf: 5\ng: {z: 1}\nh: 2\nonly: *x\n"
        .replace("only: *x\n", "");
    let two = "a: {z: 9}\nc: high\nd: {n: 2}\n";
    let mut files = BTreeMap::new();
    files.insert("/etc/cloud/cloud.cfg", main.to_owned());
    files.insert("/etc/cloud/cloud.cfg.d/10-one.cfg", one);
    files.insert("/etc/cloud/cloud.cfg.d/9-two.cfg", two.to_owned());
    files.insert("/etc/cloud/cloud.cfg.d/99-not.conf", "c: not\n".to_owned());
    let tree = DirFs::from_files(files.iter()).into_tree();
    let mut ours = config::MemoryFiles::default();
    files.iter().for_each(|(path, text)| ours.put(path, text.as_bytes()));
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let theirs: BTreeMap<String, serde_json::Value> = serde_json::from_str(&merged(&tree, &keys)).unwrap();
    let effective = config::cloud_init::CloudConfig::read(&ours).unwrap().effective();
    for key in keys {
        assert_eq!(serde_json::to_value(effective.get(key)).unwrap(), theirs[key], "{key}");
    }
}
