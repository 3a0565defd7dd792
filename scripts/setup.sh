#!/usr/bin/env bash
# Installs what the example and the tests need on Debian 12: reference tools, QEMU, a C compiler.
# Nothing is removed or downgraded; when all is there it only looks and ends.
set -euo pipefail

packages=(
    acl attr binutils btrfs-progs busybox-static bzip2 ca-certificates chromium-headless-shell cpio cryptsetup-bin dosfstools dracut-core
    e2fsprogs erofs-utils f2fs-tools fdisk g++ gcc gdisk grub-common grub-pc-bin initramfs-tools-core kmod
    libcap2-bin lvm2 lz4 lzop make mmdebstrap mtools ntfs-3g openssh-server ovmf parted pkg-config policycoreutils procps python3
    python3-requests python3-yaml qemu-system-x86 qemu-utils selinux-utils squashfs-tools strace systemd util-linux
    xfsprogs xorriso xz-utils zstd
)

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    [[ $state == ii* ]] || missing+=("$package")
done

as_root=()
[[ $(id -u) == 0 ]] || as_root=(sudo)

if ((${#missing[@]})); then
    echo "setup: installing ${missing[*]}"
    install=(apt-get install -y -q --no-remove --no-install-recommends)
    "${as_root[@]}" apt-get update -q
    # QEMU's parts must be of one version. Where one of them came from backports, the others are
    # taken from there, too: through a source list of this run alone.
    installed=$(dpkg-query -W -f '${Version}\n' qemu-utils qemu-system-x86 2>/dev/null | grep -m 1 'bpo12' || true)
    if [[ -n $installed ]] && ! apt-cache madison qemu-system-x86 | grep -qF "$installed"; then
        lists=$(mktemp -d)
        trap 'rm -rf "$lists"' EXIT
        chmod 755 "$lists"
        cp -r /etc/apt/sources.list.d "$lists/parts"
        mirror=$(apt-cache policy | sed -n 's|^ *[0-9]* \(http[^ ]*\) bookworm/main .*|\1|p' | head -n 1)
        echo "deb ${mirror:?no Debian mirror in the apt sources} bookworm-backports main" >"$lists/parts/backports.list"
        mkdir -p "$lists/state/partial"
        from=(-o "Dir::Etc::sourceparts=$lists/parts" -o "Dir::State::lists=$lists/state")
        "${as_root[@]}" apt-get "${from[@]}" update -q
        install+=("${from[@]}" -t bookworm-backports)
    fi
    # Programs are wanted, not daemons: sshd judges configuration files, no server is started or enabled.
    policy=/usr/sbin/policy-rc.d
    own_policy=
    if [[ ! -e $policy ]]; then
        own_policy=1
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
    fi
    status=0
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" "${install[@]}" "${missing[@]}" || status=$?
    [[ -z $own_policy ]] || "${as_root[@]}" rm -f "$policy"
    ((status == 0)) || exit "$status"
    if [[ " ${missing[*]} " == *" openssh-server "* ]]; then
        "${as_root[@]}" systemctl disable ssh.service >/dev/null 2>&1 || true
    fi
fi

command -v cargo >/dev/null || { echo "setup: Rust is missing: install cargo 1.88 or later (rustup)" >&2; exit 1; }
