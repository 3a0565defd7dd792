#!/usr/bin/env bash
# The main job on a real disk: builds coldfit, makes a Debian image that boots only on the controller
# it was installed on, shows that, fixes it, and boots it on virtio and NVMe.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh

cargo build --locked --release --quiet -p coldfit -p coldfit-testkit --bin coldfit --bin coldfit-lab
bin=${CARGO_TARGET_DIR:-target}/release
coldfit=$bin/coldfit
lab=$bin/coldfit-lab

work=$(mktemp -d "${TMPDIR:-/tmp}/coldfit-example.XXXXXX")
trap 'rm -rf "$work"' EXIT
image=$work/old.qcow2

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
show() { printf '$ %s\n' "$(sed "s|$bin/||g; s|$work/||g" <<<"$*")"; "$@"; }

say "A Debian 12 disk from another hypervisor (made from packages once, then cached)"
install -m 0644 "$("$lab" build debian12-mbr)" "$image"

say "Before: what does coldfit say, and what does QEMU say?"
show "$coldfit" inspect "$image"
show "$lab" boot "$image" --bus virtio-blk && { echo "example: it must not boot yet" >&2; exit 1; }

say "The fix"
show "$coldfit" fix "$image" --profile kvm --diff

say "After"
show "$coldfit" inspect "$image"
show "$lab" boot "$image" --bus virtio-blk
show "$lab" boot "$image" --bus nvme

say "The same disk, cold-refitted: it boots from its own bootloader on virtio and on NVMe."
