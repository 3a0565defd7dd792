//! A fixed address bound to the old card, in the stack of each release.

use super::MAC;
use super::release::{Line, Release};
use crate::DirFs;

pub(super) fn install(release: &Release, guest: &mut DirFs) {
    let name = release.interface();
    match release.line {
        Line::El(6..=8) => ifcfg(release, name, guest),
        Line::El(_) => keyfile(name, guest),
        Line::Suse(_) => wicked(name, guest),
        Line::Ubuntu(18..) => netplan(release, name, guest),
        Line::Debian(13..) => networkd(name, guest),
        Line::Ubuntu(_) | Line::Debian(_) => ifupdown(release, name, guest),
    }
}

fn ifcfg(release: &Release, name: &str, guest: &mut DirFs) {
    let manager = if release.el() == Some(6) { "NM_CONTROLLED=no\n" } else { "" };
    let text = format!(
        "TYPE=Ethernet\nBOOTPROTO=none\nDEFROUTE=yes\nNAME={name}\nDEVICE={name}\nONBOOT=yes\nHWADDR={MAC}\n\
         IPADDR=192.0.2.10\nPREFIX=24\nGATEWAY=192.0.2.1\nDNS1=192.0.2.53\n{manager}"
    );
    guest.add_file(format!("/etc/sysconfig/network-scripts/ifcfg-{name}"), text);
    guest.add_file("/etc/sysconfig/network-scripts/ifcfg-lo", "DEVICE=lo\nIPADDR=127.0.0.1\nONBOOT=yes\n");
    if matches!(release.line, Line::El(6 | 7)) {
        guest.add_file("/etc/sysconfig/network-scripts/network-functions", "");
        guest.add_file("/etc/sysconfig/network-scripts/ifup-eth", "");
        if release.el() == Some(7) {
            guest.add_file("/etc/init.d/network", "#!/bin/bash\n# chkconfig: 2345 10 90\n");
        }
    }
    if release.el() >= Some(7) {
        guest.add_file("/usr/lib64/NetworkManager/1.18.8-1.el7/libnm-settings-plugin-ifcfg-rh.so", "");
    }
    guest.add_file("/etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=old-server\nGATEWAY=192.0.2.1\n");
    if release.el() == Some(6) {
        let rule = format!(
            "# PCI device 0x15ad:0x07b0 (vmxnet3)\nSUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", \
             ATTR{{address}}==\"{MAC}\", ATTR{{type}}==\"1\", KERNEL==\"eth*\", NAME=\"eth0\"\n"
        );
        guest.add_file("/etc/udev/rules.d/70-persistent-net.rules", rule);
        let generator = "ACTION!=\"add\", GOTO=\"persistent_net_generator_end\"\nSUBSYSTEM==\"net\", IMPORT{program}=\"write_net_rules\"\nLABEL=\"persistent_net_generator_end\"\n";
        guest.add_file("/lib/udev/rules.d/75-persistent-net-generator.rules", generator);
    }
}

fn keyfile(name: &str, guest: &mut DirFs) {
    let path = format!("/etc/NetworkManager/system-connections/{name}.nmconnection");
    let text = format!(
        "[connection]\nid={name}\nuuid=0d8e4c3b-6a41-3ea1-8d2b-5d4c3f9a7b10\ntype=ethernet\nautoconnect-priority=-999\n\
         interface-name={name}\n\n[ethernet]\nmac-address={}\n\n[ipv4]\naddress1=192.0.2.10/24,192.0.2.1\n\
         dns=192.0.2.53;\nmethod=manual\n\n[ipv6]\naddr-gen-mode=eui64\nmethod=auto\n\n[proxy]\n",
        MAC.to_uppercase()
    );
    guest.add_file(&path, text);
    guest.set_mode(&path, 0o600);
}

fn wicked(name: &str, guest: &mut DirFs) {
    let text =
        "BOOTPROTO='static'\nSTARTMODE='auto'\nIPADDR='192.0.2.10/24'\nLLADDR=''\nETHTOOL_OPTIONS=''\n";
    guest.add_file(format!("/etc/sysconfig/network/ifcfg-{name}"), text);
    guest.add_file(
        "/etc/sysconfig/network/ifcfg-lo",
        "IPADDR='127.0.0.1/8'\nSTARTMODE='nfsroot'\nBOOTPROTO='static'\n",
    );
    guest.add_file("/etc/sysconfig/network/routes", "default 192.0.2.1 - -\n");
    guest.add_file("/etc/sysconfig/network/config", "NETCONFIG_DNS_STATIC_SERVERS=\"192.0.2.53\"\n");
    let rule = format!(
        "SUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", ATTR{{address}}==\"{MAC}\", ATTR{{dev_id}}==\"0x0\", \
         ATTR{{type}}==\"1\", KERNEL==\"eth*\", NAME=\"eth0\"\n"
    );
    guest.add_file("/etc/udev/rules.d/70-persistent-net.rules", rule);
    guest.add_file("/usr/sbin/wicked", "");
}

fn netplan(release: &Release, name: &str, guest: &mut DirFs) {
    let routes = match release.line {
        Line::Ubuntu(18 | 20) => "      gateway4: 192.0.2.1\n".to_owned(),
        _ => "      routes:\n        - to: default\n          via: 192.0.2.1\n".to_owned(),
    };
    let text = format!(
        "# This is the network config written by 'subiquity'\nnetwork:\n  version: 2\n  ethernets:\n    {name}:\n\
         \x20     match:\n        macaddress: {MAC}\n      set-name: {name}\n      addresses: [192.0.2.10/24]\n{routes}\
         \x20     nameservers:\n        addresses: [192.0.2.53]\n"
    );
    let path = "/etc/netplan/00-installer-config.yaml";
    guest.add_file(path, text);
    guest.set_mode(path, 0o600);
    guest.add_file("/usr/sbin/netplan", "#!/usr/bin/python3\n");
    guest.add_file(format!("{}/systemd/system-generators/netplan", release.lib()), "");
    if release.has_cloud_init {
        let text = "network: {config: disabled}\n";
        guest.add_file("/etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg", text);
    }
}

fn networkd(name: &str, guest: &mut DirFs) {
    let text = format!(
        "[Match]\nName={name}\nMACAddress={MAC}\n\n[Network]\nAddress=192.0.2.10/24\nGateway=192.0.2.1\nDNS=192.0.2.53\n"
    );
    guest.add_file("/etc/systemd/network/20-wired.network", text);
    let link = format!("[Match]\nMACAddress={MAC}\n\n[Link]\nName={name}\n");
    guest.add_file("/etc/systemd/network/10-lan.link", link);
}

fn ifupdown(release: &Release, name: &str, guest: &mut DirFs) {
    let text = format!(
        "# This file describes the network interfaces available on your system\nsource /etc/network/interfaces.d/*\n\n\
         auto lo\niface lo inet loopback\n\nallow-hotplug {name}\niface {name} inet static\n\taddress 192.0.2.10/24\n\
         \tgateway 192.0.2.1\n\tdns-nameservers 192.0.2.53\n\thwaddress ether {MAC}\n"
    );
    guest.add_file("/etc/network/interfaces", text);
    guest.add_dir("/etc/network/interfaces.d");
    guest.add_file(if release.is_usr_merged() { "/usr/sbin/ifup" } else { "/sbin/ifup" }, "");
}
