//! Planned network configuration, judged by the programs that read it: netplan's generator, ifupdown, nmcli.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::LazyLock;

use config::net::{NetChange, Outcome, Wanted, ifupdown, keyfile, netplan, networkd};
use support::*;
use testkit::{deb, tool};

/// Packages are asked for once: apt takes its time.
static NETPLAN: LazyLock<PathBuf> = LazyLock::new(|| deb::cached("netplan.io").unwrap());
static LIBNETPLAN: LazyLock<PathBuf> = LazyLock::new(|| deb::cached("libnetplan0").unwrap());
static IFUPDOWN: LazyLock<PathBuf> = LazyLock::new(|| deb::cached("ifupdown").unwrap());
static NETWORK_MANAGER: LazyLock<PathBuf> = LazyLock::new(|| deb::cached("network-manager").unwrap());
static LIBNM: LazyLock<PathBuf> = LazyLock::new(|| deb::cached("libnm0").unwrap());

const WANTED: Wanted<'_> = Wanted { interface: "eth0", kernel_names: true, pinned: &[], ask: true };

fn make(root: &Path, outcome: &Outcome) {
    for change in &outcome.changes {
        match change {
            NetChange::Write { path, text, .. } => put(root, path, text),
            NetChange::Remove { path, .. } => fs::remove_file(root.join(&path[1..])).unwrap(),
        }
    }
}

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    files.iter().for_each(|(path, text)| put(root.path(), path, text));
    root
}

fn run(program: &Path, libraries: &Path, args: &[&str]) -> Output {
    let mut command = tool::command(program.to_str().unwrap(), args);
    tool::output(command.env("LD_LIBRARY_PATH", libraries)).unwrap()
}

fn generate(root: &Path) -> bool {
    let package = &*NETPLAN;
    let library = LIBNETPLAN.join("usr/lib/x86_64-linux-gnu");
    let program = ["usr/libexec/netplan/generate", "lib/netplan/generate", "usr/lib/netplan/generate"]
        .iter()
        .map(|path| package.join(path))
        .find(|path| path.exists())
        .expect("netplan's generator");
    let _ = fs::remove_dir_all(root.join("run"));
    run(&program, &library, &["--root-dir", root.to_str().unwrap()]).status.success()
}

/// All that a generator wrote below a directory, file by file.
fn written(root: &Path, directory: &str) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(root.join(directory)) else { return Vec::new() };
    let mut all: Vec<(String, String)> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn netplan_generates_dhcp_for_the_card_and_nothing_else_for_it() {
    let cases: &[&[(&str, &str)]] = &[
        &[],
        &[(
            "/etc/netplan/00-installer-config.yaml",
            "network:\n  ethernets:\n    ens3:\n      addresses: [10.1.2.3/24]\n      routes: [{to: default, via: 10.1.2.1}]\n      nameservers: {addresses: [10.1.2.2]}\n  version: 2\n",
        )],
        &[(
            "/etc/netplan/50-cloud-init.yaml",
            "network:\n  version: 2\n  ethernets:\n    eth0:\n      match: {macaddress: '52:54:00:00:00:01'}\n      set-name: eth0\n      dhcp4: true\n",
        )],
        &[(
            "/etc/netplan/a.yaml",
            "network:\n  version: 2\n  ethernets:\n    lan: {match: {name: 'en*'}, dhcp4: true, dhcp6: true}\n",
        )],
        &[(
            "/etc/netplan/a.yaml",
            "network:\n  version: 2\n  ethernets:\n    eth0: {addresses: [10.1.2.3/24]}\n    eth1: {dhcp4: true, optional: true}\n  vlans:\n    v5: {id: 5, link: eth1, addresses: [10.5.0.1/24]}\n",
        )],
        &[
            (
                "/etc/netplan/a.yaml",
                "network: {version: 2, ethernets: {eth0: {dhcp4: true, macaddress: '52:54:00:00:00:01'}}}\n",
            ),
            ("/etc/netplan/b.yaml", "network: {version: 2, ethernets: {enp1s0: {dhcp4: true}}}\n"),
        ],
    ];
    for case in cases {
        let root = tree(case);
        assert!(generate(root.path()), "the case is one that netplan reads: {case:?}");
        let outcome = netplan::plan(&memory(root.path()), &WANTED, "networkd").unwrap();
        assert_eq!(outcome.obstacles, [""; 0]);
        make(root.path(), &outcome);
        assert!(generate(root.path()), "{case:?}");
        let all = written(root.path(), "run/systemd/network");
        let of_card: Vec<_> = all.iter().filter(|(name, _)| name.ends_with("-eth0.network")).collect();
        assert_eq!(of_card.len(), 1, "{all:?}");
        let text = &of_card[0].1;
        assert!(
            text.contains("Name=eth0\n") && text.contains("DHCP=ipv4") && !text.contains("Address="),
            "{text}"
        );
        for (name, text) in &all {
            assert!(
                !text.contains("MACAddress") && !name.contains("en") && !text.contains("10.1.2."),
                "{name}: {text}"
            );
        }
        assert_eq!(
            all.iter().any(|(name, _)| name.contains("v5")),
            case.iter().any(|(_, text)| text.contains("v5"))
        );
        assert_eq!(netplan::plan(&memory(root.path()), &WANTED, "networkd").unwrap().changes, []);
    }
}

#[test]
fn netplan_for_network_manager_keeps_its_renderer() {
    let root = tree(&[(
        "/etc/netplan/01-network-manager-all.yaml",
        "network: {version: 2, renderer: NetworkManager, ethernets: {ens3: {addresses: [10.1.2.3/24]}}}\n",
    )]);
    let outcome = netplan::plan(&memory(root.path()), &WANTED, "networkd").unwrap();
    make(root.path(), &outcome);
    assert!(generate(root.path()));
    let all = written(root.path(), "run/NetworkManager/system-connections");
    assert_eq!(all.len(), 1);
    assert!(all[0].1.contains("interface-name=eth0\n") && all[0].1.contains("method=auto\n"), "{all:?}");
}

#[test]
fn what_netplan_does_not_read_is_refused() {
    for text in ["network:\n  ethernets: [\n", "network: {version: 2\n", "- a\n", "network: 7\n", "a: b: c\n"]
    {
        let root = tree(&[("/etc/netplan/a.yaml", text)]);
        assert!(!generate(root.path()), "{text}");
        let outcome = netplan::plan(&memory(root.path()), &WANTED, "networkd").unwrap();
        assert!(
            outcome.changes.is_empty() && outcome.obstacles[0].starts_with("/etc/netplan/a.yaml:"),
            "{outcome:?}"
        );
    }
}

fn ifupdown_tool(name: &str, root: &Path, args: &[&str]) -> Output {
    let package = &*IFUPDOWN;
    let program = ["sbin", "usr/sbin"].map(|dir| package.join(dir).join(name));
    let program = program.iter().find(|path| path.exists()).expect("ifupdown's programs");
    let file = root.join("etc/network/interfaces");
    let state = root.join("run-network");
    let fixed = ["-i", file.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];
    run(program, Path::new("/"), &fixed.iter().chain(args).copied().collect::<Vec<_>>())
}

fn listed(root: &Path) -> Vec<String> {
    let output = ifupdown_tool("ifquery", root, &["--list", "--allow=auto"]);
    assert!(output.status.success(), "{output:?}");
    let mut names: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    names.sort();
    names
}

const INTERFACES: &[&str] = &[
    "auto lo\niface lo inet loopback\n",
    "auto lo ens3\niface lo inet loopback\niface ens3 inet static\n\taddress 10.1.2.3\n\tnetmask 255.255.255.0\n\tgateway 10.1.2.1\n",
    "auto lo\nallow-hotplug \\\n  enp1s0\niface lo inet loopback\n\n# primary\niface enp1s0 inet static\n    # inside\n    address 10.1.2.3/24\n    up echo \\\n      done\niface enp1s0 inet6 static\n  address 2001:db8::1/64\n",
    "auto lo eth0 eth0:1 eth1\niface lo inet loopback\niface eth0 inet dhcp\n  hwaddress ether 52:54:00:00:00:01\niface eth0:1 inet static\n  address 10.9.9.9/24\niface eth1 inet dhcp\n",
    "auto lo\niface lo inet loopback\niface eth0 inet manual\nauto eth0",
];

#[test]
fn ifupdown_starts_the_card_by_dhcp_and_knows_no_other_name_of_it() {
    for text in INTERFACES {
        let root = tree(&[("/etc/network/interfaces", text)]);
        listed(root.path());
        let outcome = ifupdown::plan(&memory(root.path()), &WANTED).unwrap();
        assert_eq!(outcome.obstacles, [""; 0]);
        make(root.path(), &outcome);
        let names = listed(root.path());
        let mut expected = vec!["eth0".to_owned(), "lo".to_owned()];
        expected.extend(text.contains("eth1").then(|| "eth1".to_owned()));
        expected.sort();
        assert_eq!(names, expected, "{text}");
        let query = ifupdown_tool("ifquery", root.path(), &["eth0"]);
        assert!(query.status.success() && query.stdout.is_empty(), "{query:?}");
        let act = ifupdown_tool("ifup", root.path(), &["--no-act", "--verbose", "--no-scripts", "eth0"]);
        let said =
            format!("{}{}", String::from_utf8_lossy(&act.stdout), String::from_utf8_lossy(&act.stderr));
        assert!(act.status.success() && said.contains("dhc") && !said.contains("10.1.2."), "{said}");
        assert_eq!(ifupdown::plan(&memory(root.path()), &WANTED).unwrap().changes, []);
    }
}

#[test]
fn what_ifupdown_does_not_read_is_refused() {
    for text in ["auto lo\nnonsense here\n", "  address 10.0.0.1\n", "auto lo\niface\n"] {
        let root = tree(&[("/etc/network/interfaces", text)]);
        assert!(!ifupdown_tool("ifquery", root.path(), &["--list"]).status.success(), "{text}");
        let outcome = ifupdown::plan(&memory(root.path()), &WANTED).unwrap();
        assert!(outcome.changes.is_empty() && outcome.obstacles[0].starts_with("/etc/network/interfaces:"));
    }
}

#[test]
fn interfaces_that_end_in_a_continued_line_are_refused() {
    let files =
        tree(&[("/etc/network/interfaces", "auto lo\niface lo inet loopback\nsource interfaces.d/*\\\n")]);
    let outcome = ifupdown::plan(&memory(files.path()), &WANTED).unwrap();
    assert!(outcome.changes.is_empty() && outcome.obstacles[0].starts_with("/etc/network/interfaces:3"));
}

/// What NetworkManager understands of a connection file.
fn nmcli(text: &str) -> Option<String> {
    let package = &*NETWORK_MANAGER;
    let library = LIBNM.join("usr/lib/x86_64-linux-gnu");
    let input = tempfile::NamedTempFile::new().unwrap();
    fs::write(input.path(), text).unwrap();
    let program = package.join("usr/bin/nmcli");
    let args = ["--offline", "connection", "modify", "connection.autoconnect-retries", "3"];
    let mut command = tool::command(program.to_str().unwrap(), args);
    command.env("LD_LIBRARY_PATH", library).stdin(fs::File::open(input.path()).unwrap());
    let output = tool::output(&mut command).unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn network_manager_reads_dhcp_from_what_is_written() {
    let cases = [
        "",
        "[connection]\nid=x\ntype=ethernet\ninterface-name=ens3\n[ipv4]\nmethod=manual\naddress1=10.1.2.3/24,10.1.2.1\ndns=10.1.2.2;\n",
        "[connection]\nid=x\ntype=802-3-ethernet\ninterface-name=eth0\nautoconnect=false\n\n[802-3-ethernet]\nmac-address=52:54:00:00:00:01\n\n[ipv4]\nmethod=manual\naddresses1=10.1.2.3/24\nroute1=10.0.0.0/8,10.1.2.9\n\n[ipv6]\nmethod=manual\naddress1=2001:db8::1/64\n",
        "[connection]\nid=x\ntype=ethernet\n\n[match]\ninterface-name=ens*;\n\n[ipv4]\nmethod=auto\nignore-auto-dns=true\ndns=10.1.2.2;\n",
    ];
    for case in cases {
        let files: &[(&str, &str)] = &[("/etc/NetworkManager/system-connections/x.nmconnection", case)];
        let root = tree(if case.is_empty() { &[] } else { files });
        make(root.path(), &keyfile::plan(&memory(root.path()), &WANTED).unwrap());
        let all = written(root.path(), "etc/NetworkManager/system-connections");
        assert_eq!(all.len(), 1, "{all:?}");
        let read = nmcli(&all[0].1).unwrap_or_else(|| panic!("NetworkManager reads {}", all[0].1));
        assert!(read.contains("interface-name=eth0\n") && read.contains("[ipv4]\nmethod=auto\n"), "{read}");
        for word in ["mac-address", "10.1.2.", "manual", "autoconnect=false", "ens"] {
            assert!(!read.contains(word), "{word} in {read}");
        }
    }
}

#[test]
fn what_network_manager_does_not_read_is_refused() {
    for text in ["[connection]\nid\n", "id=x\n[connection]\n", "[connection\nid=x\n"] {
        assert!(nmcli(text).is_none(), "{text}");
        let root = tree(&[("/etc/NetworkManager/system-connections/x", text)]);
        let outcome = keyfile::plan(&memory(root.path()), &WANTED).unwrap();
        assert!(outcome.changes.is_empty() && outcome.obstacles[0].contains("/x:"), "{outcome:?}");
    }
}

/// netplan writes networkd's files; those that it writes for DHCP must count as such, its static ones not.
#[test]
fn files_that_netplan_writes_are_understood() {
    for (definition, expected) in [
        ("eth0: {dhcp4: true}", 0),
        ("eth0: {dhcp4: true, dhcp6: true}", 0),
        ("any: {match: {name: 'eth*'}, dhcp4: true}", 0),
        ("eth0: {addresses: [10.1.2.3/24]}", 1),
        ("eth0: {dhcp6: true}", 1),
        ("eth0: {match: {macaddress: '52:54:00:00:00:01'}, dhcp4: true}", 2),
    ] {
        let yaml = format!("network: {{version: 2, ethernets: {{{definition}}}}}\n");
        let root = tree(&[("/etc/netplan/a.yaml", &yaml)]);
        assert!(generate(root.path()));
        let moved = root.path().join("etc/systemd");
        fs::create_dir_all(&moved).unwrap();
        fs::rename(root.path().join("run/systemd/network"), moved.join("network")).unwrap();
        let outcome = networkd::plan(&memory(root.path()), &WANTED).unwrap();
        let count = outcome.changes.len();
        assert!(if expected == 0 { count == 0 } else { count >= expected }, "{definition}: {outcome:?}");
        make(root.path(), &outcome);
        assert_eq!(networkd::plan(&memory(root.path()), &WANTED).unwrap().changes, []);
    }
}
