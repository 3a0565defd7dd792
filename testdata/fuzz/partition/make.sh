#!/bin/sh
# Makes the seeds: a mode byte (1 fixes GPT checksums, 2 means 4096-byte sectors, 4 gives the size), then the disk's start.
set -eu
cd "$(dirname "$0")"
disk=$(mktemp)
trap 'rm -f "$disk"' EXIT
seed() { { printf "$2"; head -c "$3" "$disk"; } > "$1"; }
truncate -s 1M "$disk"
printf 'label: gpt\nlabel-id: 0B5A1B0E-94D7-4C4A-A1A4-2C31F2B3C001\n1: size=100K, uuid=11111111-2222-3333-4444-555555555501\n14: size=100K, uuid=11111111-2222-3333-4444-555555555514\n' | sfdisk -q "$disk"
seed gpt '\001' 3072
truncate -s 0 "$disk"; truncate -s 1M "$disk"
printf 'label: dos\nlabel-id: 0x1234abcd\n1: start=1, size=2\n2: start=3, size=12, type=5\n5: start=4, size=1\n6: start=6, size=1\n7: start=8, size=1\n' | sfdisk -q "$disk"
seed logicals '\000' 8192
truncate -s 0 "$disk"; truncate -s 4M "$disk"
printf 'g\nx\ni\n11111111-2222-3333-4444-555555555501\nr\nn\n1\n\n+100K\nx\nu\n11111111-2222-3333-4444-555555555502\nr\nw\n' | fdisk -b 4096 "$disk" > /dev/null
seed gpt-4096 '\007' 12288
