//! DHCP on the first card, in the stack that each family's guest runs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use coldfit_fixes::{Plan, State};
use support::*;
use testkit::DirFs;
use vfs::GuestTree;

const SCRIPTS: &str = "/etc/sysconfig/network-scripts";
const KEYFILES: &str = "/etc/NetworkManager/system-connections";
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";

fn profile(stack: &str) -> cloudspec::Profile {
    profile_of("network", &format!("interface = \"eth0\"\nstack = \"{stack}\"\nkernel-names = true"))
}

fn base(files: &[(&str, &str)]) -> DirFs {
    let mut fs = DirFs::from_files(files.iter().copied());
    fs.add_file("/usr/lib/systemd/systemd", "");
    fs
}

fn enable(fs: &mut DirFs, service: &str) {
    fs.add_file(
        format!("/usr/lib/systemd/system/{service}.service"),
        "[Install]\nWantedBy=multi-user.target\n",
    );
    fs.add_symlink(
        format!("{WANTS}/{service}.service"),
        format!("/usr/lib/systemd/system/{service}.service"),
    );
}

fn network_manager(fs: &mut DirFs, has_plugin: bool) {
    fs.add_file("/usr/sbin/NetworkManager", "");
    enable(fs, "NetworkManager");
    if has_plugin {
        fs.add_file("/usr/lib64/NetworkManager/1.40.0-1.el8/libnm-settings-plugin-ifcfg-rh.so", "");
    }
}

fn network_scripts(fs: &mut DirFs) {
    fs.add_file("/etc/rc.d/init.d/network", "#!/bin/sh\n# chkconfig: 2345 10 90\n");
    fs.add_symlink("/etc/init.d", "rc.d/init.d");
    fs.add_symlink("/etc/rc.d/rc3.d/S10network", "../init.d/network");
}

fn auto(fs: DirFs) -> (Plan, GuestTree) {
    fix_by(fs, &profile("auto"))
}

fn state(planned: &Plan) -> State {
    planned.findings[0].state
}

fn evidence(planned: &Plan) -> String {
    planned.findings[0].evidence.join("\n")
}

#[test]
fn centos_7_with_the_network_service() {
    let mut fs = base(&[
        (
            "/etc/sysconfig/network-scripts/ifcfg-ens192",
            "TYPE=\"Ethernet\"\nBOOTPROTO=\"none\"\nDEVICE=\"ens192\"\nHWADDR=00:50:56:aa:bb:cc\nIPADDR=\"10.1.2.3\"\nPREFIX=24\nGATEWAY=10.1.2.1\nONBOOT=yes\n",
        ),
        ("/etc/sysconfig/network-scripts/ifcfg-lo", "DEVICE=lo\nIPADDR=127.0.0.1\n"),
        ("/etc/sysconfig/network-scripts/ifcfg-ens192.bak", "$(broken"),
        (
            "/etc/sysconfig/network-scripts/ifcfg-eth1",
            "DEVICE=eth1\nHWADDR=00:50:56:aa:bb:cd\nBOOTPROTO=dhcp\n",
        ),
        ("/etc/sysconfig/network-scripts/ifcfg-bond0", "DEVICE=bond0\nTYPE=Bond\nIPADDR=192.168.9.1\n"),
        ("/etc/sysconfig/network-scripts/route-ens192", "10.0.0.0/8 via 10.1.2.1\n"),
        ("/etc/sysconfig/network", "# global\nGATEWAY=10.1.2.1\nNOZEROCONF=yes\n"),
    ]);
    network_scripts(&mut fs);
    let (planned, tree) = auto(fs);
    assert_eq!(state(&planned), State::Fixable);
    assert_eq!(
        content(&tree, &format!("{SCRIPTS}/ifcfg-eth0")),
        "DEVICE=eth0\nBOOTPROTO=dhcp\nONBOOT=yes\nTYPE=Ethernet\n"
    );
    assert_eq!(content(&tree, &format!("{SCRIPTS}/ifcfg-eth1")), "DEVICE=eth1\nBOOTPROTO=dhcp\n");
    assert_eq!(content(&tree, "/etc/sysconfig/network"), "# global\nNOZEROCONF=yes\nNETWORKING=yes\n");
    assert!(!tree.exists(&path(&format!("{SCRIPTS}/ifcfg-ens192"))).unwrap());
    assert!(!tree.exists(&path(&format!("{SCRIPTS}/route-ens192"))).unwrap());
    assert!(evidence(&planned).contains("ifcfg-bond0: kept (bond0)"));
}

#[test]
fn a_static_eth0_keeps_all_but_its_addresses() {
    let mut fs = base(&[(
        "/etc/sysconfig/network-scripts/ifcfg-eth0",
        "# by kickstart\nNAME='System eth0'\nBOOTPROTO=static # fixed\nONBOOT=no\nIPADDR0=10.1.2.3\nDNS1=10.1.2.2\nMACADDR=52:54:00:00:00:01\nMTU=1400\nPEERDNS=no\n",
    )]);
    network_manager(&mut fs, true);
    let (_, tree) = auto(fs);
    assert_eq!(
        content(&tree, &format!("{SCRIPTS}/ifcfg-eth0")),
        "# by kickstart\nNAME='System eth0'\nBOOTPROTO=dhcp\nONBOOT=yes\nMTU=1400\nDEVICE=eth0\n"
    );
}

#[test]
fn el_9_writes_a_keyfile_and_the_literal_file_that_the_plugin_reads() {
    let mut fs = base(&[
        (
            "/etc/NetworkManager/system-connections/ens3.nmconnection",
            "[connection]\nid=ens3\ntype=ethernet\ninterface-name=ens3\n\n[ethernet]\nmac-address=52:54:00:00:00:01\n\n[ipv4]\nmethod=manual\naddress1=10.1.2.3/24,10.1.2.1\n",
        ),
        (
            "/etc/NetworkManager/system-connections/wg0.nmconnection",
            "[connection]\ntype=wireguard\ninterface-name=wg0\n",
        ),
        (
            "/etc/sysconfig/network-scripts/readme-ifcfg-rh.txt",
            "NetworkManager stores new profiles elsewhere\n",
        ),
    ]);
    network_manager(&mut fs, true);
    let (planned, tree) = auto(fs);
    assert_eq!(
        edited(&planned),
        [
            format!("{KEYFILES}/ens3.nmconnection"),
            format!("{KEYFILES}/eth0.nmconnection"),
            format!("{SCRIPTS}/ifcfg-eth0")
        ]
    );
    assert_eq!(tree.stat(&path(&format!("{KEYFILES}/eth0.nmconnection"))).unwrap().mode, 0o600);
    assert!(content(&tree, &format!("{KEYFILES}/eth0.nmconnection")).contains("interface-name=eth0\n"));
}

#[test]
fn el_10_reads_no_ifcfg_files() {
    let static_eth0 = "[connection]\nid=a\nuuid=1\ntype=ethernet\ninterface-name=eth0\n\n[ipv4]\naddress1=10.1.2.3/24\ndns=10.1.2.2;\nmethod=manual\n\n[proxy]\n";
    let mut fs = base(&[("/etc/NetworkManager/system-connections/a.nmconnection", static_eth0)]);
    network_manager(&mut fs, false);
    let (planned, tree) = auto(fs);
    assert_eq!(edited(&planned), [format!("{KEYFILES}/a.nmconnection")]);
    assert_eq!(
        content(&tree, &format!("{KEYFILES}/a.nmconnection")),
        "[connection]\nid=a\nuuid=1\ntype=ethernet\ninterface-name=eth0\n\n[ipv4]\nmethod=auto\n\n[proxy]\n"
    );
    // Right already, but for everyone to read: NetworkManager passes it over.
    let asking = "[connection]\ntype=ethernet\ninterface-name=eth0\n[ipv4]\nmethod=auto\n";
    for (mode, expected) in [(0o644, State::Fixable), (0o600, State::Holds)] {
        let mut fs = base(&[("/etc/NetworkManager/system-connections/a.nmconnection", asking)]);
        fs.set_mode(format!("{KEYFILES}/a.nmconnection"), mode);
        network_manager(&mut fs, false);
        let (planned, tree) = auto(fs);
        assert_eq!(
            (state(&planned), content(&tree, &format!("{KEYFILES}/a.nmconnection")).as_str()),
            (expected, asking)
        );
    }
    // Taken away from NetworkManager.
    let mut fs =
        base(&[("/etc/NetworkManager/conf.d/no.conf", "[keyfile]\nunmanaged-devices=interface-name:eth*\n")]);
    network_manager(&mut fs, false);
    assert_eq!(state(&auto(fs).0), State::NotFixable);
}

fn netplan(files: &[(&str, &str)]) -> DirFs {
    let mut fs = base(files);
    fs.add_file("/usr/sbin/netplan", "").add_file("/usr/lib/systemd/systemd-networkd", "");
    enable(&mut fs, "systemd-networkd");
    fs
}

#[test]
fn ubuntu_with_an_installer_file_and_one_of_cloud_init() {
    let (planned, tree) = auto(netplan(&[
        (
            "/etc/netplan/00-installer-config.yaml",
            "# by subiquity\nnetwork:\n  ethernets:\n    ens3:\n      addresses: [10.1.2.3/24]\n      gateway4: 10.1.2.1\n  version: 2\n",
        ),
        (
            "/etc/netplan/50-cloud-init.yaml",
            "network:\n  version: 2\n  ethernets:\n    ens3:\n      match: {macaddress: '52:54:00:00:00:01'}\n      set-name: ens3\n      dhcp4: true\n",
        ),
    ]));
    assert_eq!(
        edited(&planned),
        ["/etc/netplan/00-installer-config.yaml", "/etc/netplan/50-cloud-init.yaml"]
    );
    assert_eq!(
        content(&tree, "/etc/netplan/00-installer-config.yaml"),
        "network:\n  version: 2\n  renderer: networkd\n  ethernets:\n    eth0:\n      dhcp4: yes\n      dhcp6: no\n"
    );
    assert_eq!(tree.stat(&path("/etc/netplan/00-installer-config.yaml")).unwrap().mode, 0o600);
    assert!(!tree.exists(&path("/etc/netplan/50-cloud-init.yaml")).unwrap());
}

#[test]
fn netplan_keeps_what_is_for_others() {
    let (planned, tree) = auto(netplan(&[(
        "/etc/netplan/01.yaml",
        "network:\n  version: 2\n  renderer: NetworkManager\n  ethernets:\n    ens3: {addresses: [10.1.2.3/24]}\n    eth1: {dhcp4: true}\n  vlans:\n    v5: {id: 5, link: eth1}\n",
    )]));
    assert_eq!(state(&planned), State::Fixable);
    let text = content(&tree, "/etc/netplan/01.yaml");
    assert!(
        text.contains("eth1") && text.contains("v5") && text.contains("eth0") && !text.contains("ens3"),
        "{text}"
    );
    let holds = "network: {version: 2, ethernets: {eth0: {dhcp4: true}}}\n";
    let (planned, _) = auto(netplan(&[("/etc/netplan/01.yaml", holds)]));
    assert_eq!((state(&planned), planned.edits.len()), (State::Holds, 0));
    let bridge = "network:\n  ethernets: {ens3: {dhcp4: false}}\n  bridges: {br0: {interfaces: [ens3], dhcp4: true}}\n";
    let (planned, _) = auto(netplan(&[("/etc/netplan/01.yaml", bridge)]));
    assert_eq!((state(&planned), planned.edits.len()), (State::NotFixable, 0));
    let (planned, _) = auto(netplan(&[("/etc/netplan/01.yaml", "network:\n  version: 2\n  ethernets: [\n")]));
    assert_eq!(state(&planned), State::NotFixable);
    assert!(evidence(&planned).contains("/etc/netplan/01.yaml:"), "{}", evidence(&planned));
}

fn ifupdown(text: &str) -> DirFs {
    let mut fs = base(&[("/etc/network/interfaces", text), ("/sbin/ifup", "")]);
    enable(&mut fs, "networking");
    fs
}

#[test]
fn debian_with_a_static_interface() {
    let text = "# by the installer\nsource /etc/network/interfaces.d/*\n\nauto lo ens3\niface lo inet loopback\n\nallow-hotplug ens3\niface ens3 inet static\n\taddress 10.1.2.3/24\n\tgateway 10.1.2.1\n# dns\n\tdns-nameservers 10.1.2.2\n\niface wg0 inet static\n\taddress 10.9.9.1/24\n";
    let (planned, tree) = auto(ifupdown(text));
    assert_eq!(state(&planned), State::Fixable);
    assert_eq!(
        content(&tree, "/etc/network/interfaces"),
        "# by the installer\nsource /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n\niface wg0 inet static\n\taddress 10.9.9.1/24\n"
    );
    for holds in [
        "auto lo\niface lo inet loopback\nallow-hotplug eth0\niface eth0 inet dhcp\n",
        "auto eth0\niface eth0 inet dhcp\niface eth0 inet6 auto\n",
    ] {
        let (planned, _) = auto(ifupdown(holds));
        assert_eq!((state(&planned), planned.edits.len()), (State::Holds, 0), "{holds}");
    }
    let (planned, _) =
        auto(ifupdown("auto br0\niface br0 inet dhcp\n  bridge_ports ens3\niface ens3 inet manual\n"));
    assert_eq!((state(&planned), planned.edits.len()), (State::NotFixable, 0));
    let (planned, _) =
        auto(ifupdown("auto lo\niface lo inet loopback\nnonsense\nstray option\n\nauto\n iface\n"));
    assert_eq!(state(&planned), State::NotFixable);
    assert!(evidence(&planned).contains("/etc/network/interfaces:7: "), "{}", evidence(&planned));
}

#[test]
fn alinux_2_with_networkd() {
    let networkd = |name: &str, text: &str| {
        let mut fs = base(&[
            (&format!("/etc/systemd/network/{name}"), text),
            ("/usr/lib/systemd/systemd-networkd", ""),
        ]);
        enable(&mut fs, "systemd-networkd");
        auto(fs)
    };
    let (planned, tree) = networkd(
        "20-wired.network",
        "[Match]\nMACAddress=52:54:00:00:00:01\n[Network]\nAddress=10.1.2.3/24\n",
    );
    assert_eq!(
        edited(&planned),
        ["/etc/systemd/network/20-wired.network", "/etc/systemd/network/60-eth0.network"]
    );
    assert_eq!(
        content(&tree, "/etc/systemd/network/60-eth0.network"),
        "[Match]\nName=eth0\n\n[Network]\nDHCP=yes\n\n[DHCP]\nUseDNS=yes\n"
    );
    let (planned, _) = networkd("50-dhcp.network", "[Match]\nName=e*\n[Network]\nDHCP=ipv4\n");
    assert_eq!((state(&planned), planned.edits.len()), (State::Holds, 0));
    // A file for more than this card stays, and ours comes before it.
    let (planned, _) = networkd("50-all.network", "[Match]\nName=eth*\n[Network]\nAddress=10.1.2.3/24\n");
    assert_eq!(edited(&planned), ["/etc/systemd/network/10-eth0.network"]);
    let (planned, _) = networkd("50-br.network", "[Match]\nName=eth0\n[Network]\nBridge=br0\n");
    assert_eq!((state(&planned), planned.edits.len()), (State::NotFixable, 0));
    let (planned, _) = networkd("50-x.network", "[Match]\nName\n");
    assert_eq!(state(&planned), State::NotFixable);
    assert!(evidence(&planned).contains("50-x.network:2:"));
}

#[test]
fn sles_with_wicked() {
    let wicked = |files: &[(&str, &str)]| {
        let mut fs = base(files);
        fs.add_file("/usr/sbin/wicked", "")
            .add_file("/etc/sysconfig/network/config", "NETCONFIG_DNS_POLICY=auto\n");
        enable(&mut fs, "wicked");
        auto(fs)
    };
    let dir = "/etc/sysconfig/network";
    let (planned, tree) = wicked(&[
        (
            "/etc/sysconfig/network/ifcfg-eth0",
            "BOOTPROTO='static'\nIPADDR='10.1.2.3/24'\nIPADDR_1='10.1.2.4/24'\nMTU=''\nSTARTMODE='manual'\n",
        ),
        ("/etc/sysconfig/network/ifcfg-lo", "IPADDR='127.0.0.1/8'\n"),
        ("/etc/sysconfig/network/routes", "default 10.1.2.1 - -\n10.0.0.0/8 10.1.2.9 - -\n"),
    ]);
    assert_eq!(state(&planned), State::Fixable);
    assert_eq!(content(&tree, &format!("{dir}/ifcfg-eth0")), "BOOTPROTO='dhcp4'\nMTU=''\nSTARTMODE='auto'\n");
    assert_eq!(content(&tree, &format!("{dir}/routes")), "10.0.0.0/8 10.1.2.9 - -\n");
    let (planned, tree) =
        wicked(&[("/etc/sysconfig/network/ifcfg-eth-id-52:54:00:00:00:01", "BOOTPROTO='dhcp'\n")]);
    assert_eq!(planned.edits.len(), 2);
    assert_eq!(
        content(&tree, &format!("{dir}/ifcfg-eth0")),
        "BOOTPROTO='dhcp4'\nSTARTMODE='auto'\nUSERCONTROL='no'\n"
    );
    let (planned, _) =
        wicked(&[("/etc/sysconfig/network/ifcfg-eth0", "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n")]);
    assert_eq!((state(&planned), planned.edits.len()), (State::Holds, 0));
}

#[test]
fn a_stack_by_name_must_be_installed() {
    let fs = || ifupdown("auto eth0\niface eth0 inet dhcp\n");
    assert_eq!(state(&fix_by(fs(), &profile("netplan")).0), State::NotFixable);
    assert_eq!(state(&fix_by(fs(), &profile("cloud-init")).0), State::NotFixable);
    assert_eq!(state(&fix_by(fs(), &profile("keep")).0), State::NotApplicable);
    assert_eq!(state(&fix_by(fs(), &profile("ifupdown")).0), State::Holds);
    let mut other = fs();
    other.add_file("/usr/lib/systemd/systemd-networkd", "");
    other.add_file(
        "/usr/lib/systemd/system/systemd-networkd.service",
        "[Install]\nWantedBy=multi-user.target\n",
    );
    let (planned, _) = fix_by(other, &profile("networkd"));
    assert_eq!(
        edited(&planned),
        [
            "/etc/systemd/network/60-eth0.network",
            "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
        ]
    );
    assert_eq!(state(&auto(base(&[("/etc/issue", "")])).0), State::NeedsAction);
}

#[test]
fn shell_code_in_a_file_is_left_alone() {
    let mut fs = base(&[(
        "/etc/sysconfig/network-scripts/ifcfg-eth0",
        "DEVICE=eth0\nif true; then\nIPADDR=10.0.0.1\nfi\n",
    )]);
    network_scripts(&mut fs);
    let (planned, _) = auto(fs);
    assert_eq!((state(&planned), planned.edits.len()), (State::NotFixable, 0));
    assert!(evidence(&planned).contains("ifcfg-eth0:2:"));
}

#[test]
fn cloud_init_gets_the_network_back_when_it_is_to_have_it() {
    let with = |text: &str| {
        let mut fs = ifupdown("auto eth0\niface eth0 inet dhcp\n");
        fs.add_file("/usr/bin/cloud-init", "").add_file("/etc/cloud/cloud.cfg.d/99-disable.cfg", text);
        enable(&mut fs, "cloud-init");
        fix_by(fs, &profile("cloud-init"))
    };
    let (planned, _) = with("# off\nnetwork: {config: disabled}\n");
    assert_eq!(edited(&planned), ["/etc/cloud/cloud.cfg.d/99-disable.cfg"]);
    let (planned, _) = with("network:\n  config: disabled\nusers: [x]\n");
    assert_eq!(state(&planned), State::NotFixable);
    assert!(evidence(&planned).contains("99-disable.cfg:2:"));
}

/// A name that a link file or a udev rule gives to one piece of hardware is gone with that file, and so is what
/// is configured by it.
#[test]
fn configuration_by_a_pinned_name_goes_with_the_pin() {
    let interfaces = "auto lo\niface lo inet loopback\n\nauto lan0\niface lan0 inet static\n\taddress 192.0.2.10/24\n\thwaddress ether 00:50:56:aa:bb:cc\n";
    let link = "[Match]\nMACAddress=00:50:56:aa:bb:cc\n\n[Link]\nName=lan0\n";
    let rule = "SUBSYSTEM==\"net\", ACTION==\"add\", ATTR{address}==\"00:50:56:aa:bb:cc\", NAME=\"lan0\"\n";
    for (pin, pinning) in
        [("/etc/systemd/network/10-lan.link", link), ("/etc/udev/rules.d/70-persistent-net.rules", rule)]
    {
        let mut fs = base(&[("/etc/network/interfaces", interfaces), ("/sbin/ifup", ""), (pin, pinning)]);
        enable(&mut fs, "networking");
        let (planned, tree) = auto(fs);
        assert_eq!(state(&planned), State::Fixable, "{pin}: {}", evidence(&planned));
        let text = content(&tree, "/etc/network/interfaces");
        assert!(!text.contains("lan0") && !text.contains("192.0.2.10"), "{pin}\n{text}");
        assert!(text.contains("iface eth0 inet dhcp"), "{pin}\n{text}");
    }
    // Without a pin the name may be that of a card which stays.
    let mut fs = base(&[("/etc/network/interfaces", interfaces), ("/sbin/ifup", "")]);
    enable(&mut fs, "networking");
    let (_, tree) = auto(fs);
    assert!(content(&tree, "/etc/network/interfaces").contains("iface lan0 inet static"));
}
