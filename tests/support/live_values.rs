//! Live values of a booted guest held against the rules of a profile: what is wanted comes from
//! `coldfit profiles show`, what is there from the guest.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::path::Path;

use serde_json::Value;
use testkit::cloud_host::CloudHost;
use testkit::live::Live;
use testkit::recipe::Ext4View;

use super::support::coldfit_json;

/// The profile that the guests are held against.
pub const PROFILE: &str = "alibaba";

/// The rules of a profile that count: none that is waived or meant for other machines.
pub struct Rules {
    rules: Vec<Value>,
}

impl Rules {
    /// The profile with these `--set` arguments, for a Debian guest on x86_64.
    pub fn of(profile: &str, settings: &[&str]) -> Self {
        let mut arguments = vec!["profiles", "show", profile];
        for setting in settings {
            arguments.extend(["--set", setting]);
        }
        let mut shown = coldfit_json(arguments);
        let Value::Array(mut rules) = shown["rules"].take() else { panic!("no rules: {shown}") };
        let meant_for = |rule: &Value, list: &str, ours: &str| {
            strings(&rule[list]).is_empty() || strings(&rule[list]).contains(&ours)
        };
        rules.retain(|rule| {
            rule["waived"].is_null()
                && meant_for(rule, "families", "debian")
                && meant_for(rule, "architectures", "x86_64")
        });
        Self { rules }
    }

    /// Every rule of this kind.
    pub fn of_kind(&self, kind: &str) -> Vec<&Value> {
        let rules: Vec<&Value> = self.rules.iter().filter(|rule| rule["kind"] == kind).collect();
        assert!(!rules.is_empty(), "the profile has no rule of kind {kind}");
        rules
    }

    /// A text list, over all rules of a kind.
    pub fn lists(&self, kind: &str, field: &str) -> Vec<&str> {
        self.of_kind(kind).into_iter().flat_map(|rule| strings(&rule[field])).collect()
    }
}

pub fn strings(value: &Value) -> Vec<&str> {
    value.as_array().map(|all| all.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// Which time daemon a guest has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    Chrony,
    Timesyncd,
}

/// Collects what does not hold, so that one boot shows all of it.
#[derive(Default)]
pub struct Complaints(Vec<String>);

impl Complaints {
    fn same(&mut self, what: &str, found: &str, wanted: &str) {
        self.holds(found == wanted, || format!("{what}: `{found}`, wanted `{wanted}`"));
    }

    fn holds(&mut self, holds: bool, complaint: impl FnOnce() -> String) {
        if !holds {
            self.0.push(complaint());
        }
    }

    /// Fails unless each of these begins a complaint: what is known to be wrong is seen to be wrong.
    pub fn assert_has(&self, beginnings: &[&str]) {
        let has = |beginning: &&str| self.0.iter().any(|complaint| complaint.starts_with(*beginning));
        let missing: Vec<&&str> = beginnings.iter().filter(|beginning| !has(beginning)).collect();
        assert!(missing.is_empty(), "no complaint of {missing:?} in:\n  {}", self.0.join("\n  "));
    }

    /// Fails with everything that was collected.
    pub fn assert_none(self, of: &str) {
        assert!(self.0.is_empty(), "{of}:\n  {}", self.0.join("\n  "));
    }
}

/// Everything that the rules say of a running system.
pub fn compare(live: &Live, rules: &Rules, host: &CloudHost, clock: Clock) -> Complaints {
    let mut found = Complaints::default();
    found.sysctl(live, rules);
    found.sshd(live, rules);
    found.kernel(live, rules);
    found.services(live, rules, clock);
    found.time(live, rules, clock);
    found.network(live, rules, host);
    found.storage(live, rules);
    found.cloud_init(live, host);
    for rule in rules.of_kind("root-lock") {
        found.same(
            "root's password",
            live.get("id.root_password"),
            rule["field"].as_str().unwrap_or_default(),
        );
    }
    found
}

impl Complaints {
    fn sysctl(&mut self, live: &Live, rules: &Rules) {
        for setting in rules.lists("sysctl", "settings") {
            let (name, value) = setting.split_once('=').expect("a sysctl setting");
            self.same(name.trim(), live.get(&format!("sysctl.{}", name.trim())), value.trim());
        }
    }

    fn sshd(&mut self, live: &Live, rules: &Rules) {
        self.same("sshd -T, errors", live.get("sshd-error"), "");
        for setting in rules.lists("sshd", "settings") {
            let (name, value) = setting.split_once(' ').expect("an sshd setting");
            // `sshd -T` prints the older of two names for the same value.
            let wanted = if value == "prohibit-password" { "without-password" } else { value };
            let shown = live.all(&format!("sshd.{}", name.to_lowercase())).join(" ");
            self.holds(shown == wanted || shown == value, || {
                format!("sshd: {name} {shown}, wanted {setting}")
            });
        }
    }

    fn kernel(&mut self, live: &Live, rules: &Rules) {
        let command_line = live.get("boot.cmdline");
        let words: Vec<&str> = command_line.split_whitespace().collect();
        let mut wanted: Vec<String> =
            rules.lists("kernel-args", "arguments").into_iter().map(str::to_owned).collect();
        wanted
            .extend(rules.lists("console", "devices").into_iter().map(|device| format!("console={device}")));
        for rule in rules.of_kind("module-parameters") {
            for parameter in strings(&rule["parameters"]) {
                // The kernels of these guests hold the whole value in both parameters.
                let module = rule["module"].as_str().unwrap_or_default();
                wanted.push(format!("{module}.{parameter}={}", rule["value"]));
                if live.get("boot.bus") == "nvme" {
                    let what = format!("/sys/module/{module}/parameters/{parameter}");
                    self.same(&what, live.get(&format!("nvme.{parameter}")), &rule["value"].to_string());
                }
            }
        }
        for argument in wanted {
            self.holds(words.contains(&argument.as_str()), || {
                format!("{argument} is not in `{command_line}`")
            });
        }
        self.holds(words.iter().any(|word| word.starts_with("root=UUID=")), || {
            format!("root= is not by UUID in `{command_line}`")
        });
        let resumes = words.iter().any(|word| word.starts_with("resume="));
        self.holds(!resumes, || format!("it still resumes: `{command_line}`"));
    }

    fn services(&mut self, live: &Live, rules: &Rules, clock: Clock) {
        for rule in rules.of_kind("service-off") {
            for service in strings(&rule["services"]) {
                let (enabled, active) = unit(live, service);
                let is_off = matches!(enabled, "" | "not-found" | "disabled" | "masked")
                    && matches!(active, "" | "inactive");
                self.holds(is_off, || format!("{service}: {enabled}, {active}"));
            }
        }
        for rule in rules.of_kind("service-on") {
            for names in rule["services"].as_array().expect("groups of names") {
                // A one-shot service may be over; none may have failed (below).
                let is_on = |name: &str| unit(live, name).0 == "enabled" && unit(live, name).1 != "failed";
                self.holds(strings(names).into_iter().any(is_on), || format!("none of {names} starts"));
            }
        }
        self.same("ssh", unit(live, "ssh").1, "active");
        let (clock, other) = match clock {
            Clock::Chrony => ("chrony", "systemd-timesyncd"),
            Clock::Timesyncd => ("systemd-timesyncd", "chrony"),
        };
        self.holds(unit(live, clock) == ("enabled", "active"), || {
            format!("{clock}: {:?}", unit(live, clock))
        });
        self.holds(unit(live, other).1 != "active", || format!("{other} runs, too"));
        // The report itself runs while the state is asked for, so that `running` may still be `starting`.
        self.same("failed units", live.get("failed"), "");
    }

    fn time(&mut self, live: &Live, rules: &Rules, clock: Clock) {
        self.same("timedatectl, LocalRTC", live.get("clock.local_rtc"), "no");
        for rule in rules.of_kind("time-sync") {
            let pattern = rule["chrony-server"].as_str().expect("how chrony names a server");
            let servers = strings(&rule["servers"]);
            assert!(!servers.is_empty());
            if clock == Clock::Timesyncd {
                self.same("timesyncd's servers", live.get("timesyncd.servers"), &servers.join(" "));
                continue;
            }
            let wanted: Vec<String> = servers.iter().map(|server| pattern.replace("{}", server)).collect();
            let lines = live.all("chrony").iter();
            let found: Vec<&String> =
                lines.filter(|line| line.starts_with("server") || line.starts_with("pool")).collect();
            self.holds(found == wanted.iter().collect::<Vec<_>>(), || format!("chronyd -p: {found:?}"));
        }
    }

    fn network(&mut self, live: &Live, rules: &Rules, host: &CloudHost) {
        for rule in rules.of_kind("network") {
            let interface = rule["interface"].as_str().expect("an interface");
            self.same("links", live.get("net.links"), &format!("lo {interface}"));
            let address = live.all("net.address").join(", ");
            let (_, prefix) = host.network.split_once('/').expect("a network with its prefix");
            let by_dhcp = format!("{interface} {}/{prefix} dynamic", host.guest);
            self.same("addresses", &address, &by_dhcp);
            let route = live.get("net.route");
            self.holds(route.contains(&format!("dev {interface}")), || format!("default route: {route}"));
        }
    }

    fn storage(&mut self, live: &Live, rules: &Rules) {
        assert!(!rules.of_kind("swap-off").is_empty());
        self.same("swap", live.get("swap"), "");
        // The disk grew in the image file, the partition and its filesystem at the first boot.
        for rule in rules.of_kind("disk-size") {
            let minimum = rule["minimum"].as_u64().expect("GiB") << 30;
            let bytes: u64 = live.get("root.bytes").parse().unwrap_or(0);
            self.holds(bytes > minimum / 10 * 9, || format!("the root filesystem has {bytes} bytes"));
        }
        let root = live.all("mount").iter().find(|line| line.starts_with("/ ")).cloned().unwrap_or_default();
        self.holds(root.contains(" ext4 rw"), || format!("root: {root}"));
    }

    fn cloud_init(&mut self, live: &Live, host: &CloudHost) {
        self.same(
            "cloud-init's instance",
            live.get("cloud.instance"),
            &host.answers["meta-data/instance-id"],
        );
        // Of a fresh image cloud-init writes this word (Init.previous_iid); where its local stage has found the
        // instance already, the later one finds that.
        let (instance, previous) = (live.get("cloud.instance"), live.get("cloud.previous"));
        self.holds(previous == "NO_PREVIOUS_INSTANCE_ID" || previous == instance, || {
            format!("an instance before: {previous}")
        });
        let datasource = live.get("cloud.datasource");
        self.holds(datasource.starts_with("DataSourceAliYun"), || format!("data source: {datasource}"));
        let status = live.get("cloud.status");
        self.holds(status.contains("status: done"), || format!("cloud-init: {status}"));
        self.same("host name", live.get("id.hostname"), &host.answers["meta-data/hostname"]);
    }
}

fn unit<'l>(live: &'l Live, name: &str) -> (&'l str, &'l str) {
    (live.get(&format!("unit.{name}.enabled")), live.get(&format!("unit.{name}.active")))
}

/// The specification's own lines in its own files, as a check of texts would look for them.
/// `grub_defaults` is the file whose assignment counts: a later one replaces that of `/etc/default/grub`.
pub fn literal_lines(root: &Ext4View, rules: &Rules, clock: Clock, grub_defaults: &str) -> Complaints {
    let mut found = Complaints::default();
    let text = |path: &str| root.text(path).unwrap();
    let mut lines: Vec<(&str, String)> = vec![("/etc/adjtime", "UTC".into())];
    let mut expect =
        |path, wanted: Vec<&str>| lines.extend(wanted.into_iter().map(|line| (path, line.to_owned())));
    expect("/etc/sysctl.conf", rules.lists("sysctl", "settings"));
    // Rows of the specification have a letter; what is demanded elsewhere has no wording there.
    for rule in rules.of_kind("sshd") {
        let is_specified = rule["row"].as_str().is_some_and(|row| row.starts_with(char::is_alphabetic));
        expect("/etc/ssh/sshd_config", if is_specified { strings(&rule["settings"]) } else { Vec::new() });
    }
    for rule in rules.of_kind("time-sync").into_iter().filter(|_| clock == Clock::Chrony) {
        let pattern = rule["chrony-server"].as_str().expect("how chrony names a server");
        for server in strings(&rule["servers"]) {
            lines.push(("/etc/chrony/chrony.conf", pattern.replace("{}", server)));
        }
    }
    for (path, line) in lines {
        found.holds(text(path).lines().any(|there| there == line), || format!("{path} has no line `{line}`"));
    }
    for rule in rules.of_kind("file-content") {
        let path = rule["path"].as_str().expect("a path");
        let wanted = rule["content"].as_str().expect("its content");
        found.same(path, &text(path), wanted);
    }
    let defaults = text(grub_defaults);
    let linux = defaults.lines().find(|line| line.starts_with("GRUB_CMDLINE_LINUX=")).unwrap_or_default();
    let mut arguments: Vec<String> =
        rules.lists("kernel-args", "arguments").into_iter().map(str::to_owned).collect();
    arguments.extend(rules.lists("console", "devices").into_iter().map(|device| format!("console={device}")));
    for argument in &arguments {
        found.holds(linux.contains(argument), || format!("{grub_defaults}: `{linux}` lacks {argument}"));
    }
    let config = text("/boot/grub/grub.cfg");
    for line in config.lines().map(str::trim_start).filter(|line| line.starts_with("linux\t")) {
        // Entries for repairs get root and consoles only.
        let is_for_repairs = line.contains(" single ");
        let wanted = arguments.iter().filter(|argument| !is_for_repairs || argument.starts_with("console="));
        for argument in wanted.map(String::as_str).chain(["root=UUID="]) {
            found.holds(line.contains(argument), || format!("grub.cfg: `{line}` lacks {argument}"));
        }
    }
    found
}

/// The host that looks like the profile's cloud.
pub fn host() -> CloudHost {
    let file = format!("testdata/cloud-host/{PROFILE}.toml");
    CloudHost::from_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}
