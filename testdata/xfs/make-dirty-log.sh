#!/usr/bin/env bash
# Makes dirty-log.raw.zst: a filesystem of 24 MiB that was shut down with changes in its log and a file without a name
# open. Needs root, loop devices and xfsprogs 6.1.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
truncate -s 24M "$work/image"
# These variables let mkfs make filesystems below 300 MiB.
TEST_DIR=1 TEST_DEV=1 QA_CHECK_FS=1 mkfs.xfs -q -d size=24m -m rmapbt=0,reflink=0 -l size=4m "$work/image"
mkdir "$work/mnt"
mount -o loop "$work/image" "$work/mnt"
(
    cd "$work/mnt"
    for i in 1 2 3 4 5 6; do
        mkdir "d$i"
        echo x >"d$i/f"
        ln -s a "d$i/l"
        setfattr -n user.a -v b "d$i/f"
    done
    sync
    rm d1/f
    mv d2/f d3/g
    exec 5<d4/f
    rm d4/f
    xfs_io -x -c 'shutdown -f' .
)
umount "$work/mnt"
zstd -q -19 -f "$work/image" -o dirty-log.raw.zst
