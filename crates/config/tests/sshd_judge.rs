//! Our evaluation of sshd_config against what `sshd -T` says, over whole trees of `/etc/ssh`.
//!
//! `sshd` reads `/etc/ssh` alone for relative names, so each tree is bound there in a mount namespace of its
//! own; the machine's own `/etc/ssh` stays as it is, and no server is started.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::fs;
use std::path::Path;

use config::sshd::{Scope, SshdConfig, place_setting};
use config::{Files, MemoryFiles};
use testkit::tool;
use vfs::GuestPath;

const KEYWORDS: [&str; 34] = [
    "port",
    "addressfamily",
    "syslogfacility",
    "usedns",
    "permitrootlogin",
    "passwordauthentication",
    "kbdinteractiveauthentication",
    "pubkeyauthentication",
    "permitemptypasswords",
    "gssapiauthentication",
    "hostbasedauthentication",
    "usepam",
    "x11forwarding",
    "x11uselocalhost",
    "permittty",
    "printmotd",
    "printlastlog",
    "strictmodes",
    "tcpkeepalive",
    "allowagentforwarding",
    "compression",
    "allowtcpforwarding",
    "gatewayports",
    "loglevel",
    "maxauthtries",
    "maxsessions",
    "clientalivecountmax",
    "clientaliveinterval",
    "logingracetime",
    "banner",
    "acceptenv",
    "allowusers",
    "denyusers",
    "authorizedkeysfile",
];
/// Version of the server that judges (Debian 12): decides defaults only, which are the same since 7.0.
const VERSION: Option<(u32, u32)> = Some((9, 2));

type Tree = Vec<(String, String)>;

fn tree(files: &[(&str, &str)]) -> Tree {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// `sshd_config` alone.
fn main_only(text: &str) -> Tree {
    tree(&[("sshd_config", text)])
}

/// Debian's layout: drop-ins come first.
fn with_drop_in(drop_in: &str, rest: &str) -> Tree {
    let main = format!("Include /etc/ssh/sshd_config.d/*.conf\n{rest}");
    tree(&[("sshd_config", &main), ("sshd_config.d/50-a.conf", drop_in)])
}

fn single_files() -> Vec<Tree> {
    let texts = [
        "",
        "# Port 23\n",
        "Port 22\nPort 2222\n",
        "PermitRootLogin yes\nPermitRootLogin no\n",
        "permitrootlogin no\nPERMITROOTLOGIN yes\n",
        "PermitRootLogin prohibit-password\n",
        "PermitRootLogin Forced-Commands-Only\n",
        "PermitRootLogin=yes\nUseDNS = yes\n",
        "  UseDNS   yes   \n\tAddressFamily\tinet\n",
        "UseDNS yes\r\nPort 24\r\n",
        "UseDNS \"yes\"\n\"AddressFamily\" inet6\n",
        "UseDNS 'yes'\n",
        "UseDNS yes # comment\n",
        "UseDNS yes#comment\n",
        "UseDNS true\n",
        "TCPKeepAlive false\n",
        "AllowTcpForwarding true\n",
        "UseDNS maybe\n",
        "UseDNS\n",
        "UseDNS yes no\n",
        "Banner \"/etc/issue\n",
        "Banner /etc/issue\\ net\n",
        "Banner \"/etc/issue net\"\n",
        "SyslogFacility authpriv\nLogLevel verbose\n",
        "SyslogFacility LOCAL7\nLogLevel DEBUG1\n",
        "SyslogFacility NOWHERE\n",
        "LoginGraceTime 1m30s\nClientAliveInterval 2h\n",
        "LoginGraceTime 0\nMaxAuthTries 3\n",
        "LoginGraceTime 1x\n",
        "AcceptEnv LANG LC_*\nAcceptEnv A\n",
        "AllowUsers a b\nAllowUsers c\nDenyUsers d\n",
        "ChallengeResponseAuthentication no\nKbdInteractiveAuthentication yes\n",
        "AuthorizedKeysFile .ssh/a .ssh/b\nAuthorizedKeysFile .ssh/c\n",
        "AllowTcpForwarding all\nGatewayPorts clientspecified\nCompression delayed\n",
        "AllowTcpForwarding local\nX11Forwarding yes\nX11UseLocalhost no\n",
        "Protocol 2\nUsePrivilegeSeparation yes\nServerKeyBits 1024\n",
        "PasswordAuthentication no\nMatch user a\nPasswordAuthentication yes\n",
        "Match user a\nPasswordAuthentication no\nPermitRootLogin yes\n",
        "Match user a\nPasswordAuthentication no\nMatch all\nPermitRootLogin yes\n",
        "PermitRootLogin no\nMatch all\nPermitRootLogin yes\n",
        "Match all\nPermitRootLogin yes\nPermitRootLogin no\nMatch all\nMaxSessions 3\nPermitRootLogin no\n",
        "Match all\nUseDNS yes\n",
        "UseDNS no\nMatch all\nUseDNS yes\n",
        "Match user a\nUseDNS yes\n",
        "Match all user a\nPermitRootLogin yes\n",
        "Match address 10.0.0.0/8 # inner\nX11Forwarding yes\nMaxAuthTries 2\n",
        "AcceptEnv A\nMatch all\nAcceptEnv B\nAcceptEnv C\n",
        "AllowUsers a\nMatch user b\nAllowUsers c\n",
        "Match=user a\nX11Forwarding=yes\n",
        "port 22\nport=23\nPORT 24\n",
        "Port 0\n",
        "Port 70000\n",
        "=UseDNS yes\n",
        "TCPKeepAlive no\nStrictModes no\nPrintMotd no\nPrintLastLog no\nPermitTTY no\n",
        "UsePAM yes\nPermitEmptyPasswords yes\nPubkeyAuthentication no\nHostbasedAuthentication yes\n",
        "ClientAliveCountMax 0\nMaxSessions 1\nAllowAgentForwarding no\nGSSAPIAuthentication yes\n",
    ];
    texts.iter().map(|text| main_only(text)).collect()
}

fn trees() -> Vec<Tree> {
    let mut trees = vec![
        with_drop_in("PermitRootLogin yes\n", "PermitRootLogin no\n"),
        with_drop_in("PasswordAuthentication no\n", "PasswordAuthentication yes\nUseDNS yes\n"),
        with_drop_in("Match user a\nPermitRootLogin yes\n", "PermitRootLogin no\nUseDNS yes\n"),
        with_drop_in("Match all\nPermitRootLogin yes\n", "PermitRootLogin no\nUseDNS yes\n"),
        with_drop_in("Match all\nX11Forwarding yes\n", "Match all\nX11Forwarding no\n"),
        with_drop_in("UseDNS\n", "PermitRootLogin no\n"),
        with_drop_in("Port 23\n", "Port 22\n"),
        with_drop_in("Include more/*.conf\n", "UseDNS no\n"),
        tree(&[("sshd_config", "UseDNS no\nInclude a.conf\n"), ("a.conf", "UseDNS yes\nMaxSessions 4\n")]),
        tree(&[("sshd_config", "Include none/*.conf\nUseDNS yes\n")]),
        tree(&[("sshd_config", "Include missing.conf\nUseDNS yes\n")]),
        tree(&[("sshd_config", "Include\nUseDNS yes\n")]),
        tree(&[
            ("sshd_config", "Include d/*.conf\nMaxAuthTries 5\n"),
            ("d/20.conf", "UseDNS yes\nMaxAuthTries 2\n"),
            ("d/10.conf", "UseDNS no\n"),
            ("d/.05.conf", "UseDNS yes\n"),
            ("d/Z.conf", "MaxSessions 2\n"),
            ("d/a.conf", "MaxSessions 3\n"),
            ("d/05.config", "MaxSessions 9\n"),
        ]),
        tree(&[
            ("sshd_config", "Include b.conf a.conf\n"),
            ("a.conf", "UseDNS yes\n"),
            ("b.conf", "UseDNS no\nMaxSessions 2\n"),
        ]),
        tree(&[
            ("sshd_config", "Match user a\nInclude a.conf\nX11Forwarding yes\n"),
            ("a.conf", "PermitRootLogin yes\nMatch all\nPermitRootLogin yes\n"),
        ]),
        tree(&[
            ("sshd_config", "PermitRootLogin no\nMatch all\nInclude a.conf\nX11Forwarding yes\n"),
            ("a.conf", "PermitRootLogin yes\nMatch user b\nX11Forwarding no\n"),
        ]),
        tree(&[
            ("sshd_config", "Include a.conf\nMaxSessions 7\n"),
            ("a.conf", "Match user a\nMaxSessions 8\n"),
        ]),
        tree(&[
            ("sshd_config", "Include 1.conf\nUseDNS no\n"),
            ("1.conf", "Include 2.conf\nUseDNS yes\n"),
            ("2.conf", "Include 3.conf\nMaxSessions 2\n"),
            ("3.conf", "MaxSessions 3\n"),
        ]),
        tree(&[("sshd_config", "Include loop.conf\n"), ("loop.conf", "Include loop.conf\nUseDNS yes\n")]),
        tree(&[
            ("sshd_config", "Include \"with blank.conf\"\nInclude [ab].conf\n"),
            ("with blank.conf", "UseDNS yes\n"),
            ("a.conf", "MaxSessions 3\n"),
            ("b.conf", "MaxSessions 4\nMaxAuthTries 2\n"),
            ("c.conf", "MaxAuthTries 3\n"),
        ]),
        tree(&[("sshd_config", "Match user a\nInclude a.conf\n"), ("a.conf", "UseDNS yes\n")]),
    ];
    // Nesting to the last depth that is allowed, and one more.
    for depth in [16, 17] {
        let mut files = vec![("sshd_config".to_owned(), "Include 1.conf\n".to_owned())];
        for level in 1..=depth {
            let text =
                format!("Include {}.conf\n{}", level + 1, if level == depth { "UseDNS yes\n" } else { "" });
            files.push((format!("{level}.conf"), text));
        }
        trees.push(files);
    }
    trees
}

fn ours(tree: &Tree) -> Result<Vec<String>, Vec<String>> {
    let mut files = MemoryFiles::default();
    for (name, text) in tree {
        files.put(&format!("/etc/ssh/{name}"), text.as_str());
    }
    assert!(files.has("/etc/ssh").unwrap());
    let config = SshdConfig::read(&files, &GuestPath::new("/etc/ssh/sshd_config").unwrap()).unwrap();
    if !config.problems.is_empty() {
        return Err(config.problems);
    }
    let values = |keyword: &&str| {
        config
            .effective(keyword, VERSION)
            .into_iter()
            .map(|value| format!("{keyword} {value}"))
            .collect::<Vec<_>>()
    };
    Ok(KEYWORDS.iter().flat_map(values).collect())
}

/// What `sshd -T` prints for our keywords; the error text where it refuses.
fn theirs(folder: &Path, case: usize) -> Result<Vec<String>, String> {
    let read = |kind: &str| fs::read_to_string(folder.join(format!("{case}.{kind}"))).unwrap();
    if read("status").trim() != "0" {
        return Err(read("err"));
    }
    let out = read("out");
    let of = |keyword: &&str| {
        let prefix = format!("{keyword} ");
        out.lines().filter(|line| line.starts_with(&prefix)).map(str::to_owned).collect::<Vec<_>>()
    };
    Ok(KEYWORDS.iter().flat_map(of).collect())
}

/// The tree with one more setting in its main file; `None` where sshd refuses the tree, or where `Match all`
/// takes the setting back.
fn with_setting_placed(tree: &Tree) -> Option<Tree> {
    let mut files = MemoryFiles::default();
    for (name, text) in tree {
        files.put(&format!("/etc/ssh/{name}"), text.as_str());
    }
    let main = GuestPath::new("/etc/ssh/sshd_config").unwrap();
    let config = SshdConfig::read(&files, &main).unwrap();
    let is_taken_back = config.setting("maxsessions").iter().any(|line| line.scope == Scope::All);
    if !config.problems.is_empty() || is_taken_back {
        return None;
    }
    let mut tree = tree.clone();
    let (_, text) = tree.iter_mut().find(|(name, _)| name == "sshd_config")?;
    let placed = place_setting(text.as_bytes(), &main, &config, "MaxSessions 77", false);
    *text = String::from_utf8(placed.text).unwrap();
    Some(tree)
}

#[test]
fn effective_values_are_those_that_sshd_prints() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    tool::run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]).unwrap();
    let mut trees: Vec<Tree> = single_files().into_iter().chain(trees()).collect();
    assert!(trees.len() >= 60);
    let placed: Vec<Tree> = trees.iter().filter_map(with_setting_placed).collect();
    assert!(placed.len() >= 40);
    let first_placed = trees.len();
    trees.extend(placed);
    for (case, tree) in trees.iter().enumerate() {
        let root = folder.path().join(format!("{case}.d"));
        for (name, text) in tree {
            let file = root.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
    }
    let script = "set -e; cd \"$1\"; mount -t tmpfs none /run; mkdir /run/sshd; i=0
        while [ -d $i.d ]; do
            mount --bind $i.d /etc/ssh
            status=0; $(command -v sshd) -T -f /etc/ssh/sshd_config -h \"$1/key\" >$i.out 2>$i.err || status=$?
            echo $status >$i.status; umount /etc/ssh; i=$((i + 1))
        done";
    let root = folder.path().to_str().unwrap();
    tool::run("unshare", ["-r", "-m", "sh", "-c", script, "sh", root]).unwrap();
    let mut refused = 0;
    let mut differing = Vec::new();
    for (case, tree) in trees.iter().enumerate() {
        match (ours(tree), theirs(folder.path(), case)) {
            (Ok(ours), Ok(theirs)) => {
                let only = |a: &[String], b: &[String]| {
                    a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>()
                };
                if case >= first_placed {
                    assert!(theirs.contains(&"maxsessions 77".to_owned()), "{tree:?}: {theirs:?}");
                }
                if ours != theirs {
                    let (more, fewer) = (only(&ours, &theirs), only(&theirs, &ours));
                    differing.push(format!("{tree:?}: ours {more:?}, theirs {fewer:?}"));
                }
            }
            (Err(_), Err(_)) => refused += 1,
            (Ok(_), Err(theirs)) => differing.push(format!("{tree:?}: accepted by us alone; {theirs}")),
            (Err(ours), Ok(_)) => differing.push(format!("{tree:?}: refused by us alone; {ours:?}")),
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert!(refused > 5, "the matrix has no cases that sshd refuses");
}
