#!/bin/sh
# Makes the seeds of the fuzz targets `initramfs` and `module_index`: one small image for each compression,
# and each index form, from a tree that is written here. Needs cpio, gzip, bzip2, xz, lzop, lz4, zstd, depmod.
set -eu
out=$(cd "$(dirname "$0")/../fuzz" && pwd)
mkdir -p "$out/initramfs" "$out/module_index"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cd "$tree"
mkdir -p image/conf image/scripts image/usr/lib/modules/6.1/kernel image/etc/modprobe.d early/kernel/x86/microcode
ln -s usr/lib image/lib
echo '#!/bin/sh' > image/init
echo 'blacklist floppy' > image/etc/modprobe.d/a.conf
echo linked > image/one
ln image/one image/two
echo module > image/usr/lib/modules/6.1/kernel/a-b.ko.xz
echo microcode > early/kernel/x86/microcode/GenuineIntel.bin
archive() {
    (cd "$1" && find . | LC_ALL=C sort | cpio -o -H newc --reproducible --quiet -R 0:0)
}
archive image > image.cpio
archive early > early.cpio
seed() { cat early.cpio - > "$out/initramfs/$1"; }
seed none < image.cpio
gzip -n < image.cpio | seed gzip
bzip2 < image.cpio | seed bzip2
xz --format=lzma < image.cpio | seed lzma
xz --check=crc32 < image.cpio | seed xz
lzop < image.cpio | seed lzo
lz4 -l -c < image.cpio | seed lz4
zstd -q < image.cpio | seed zstd

# modules.builtin.modinfo alone makes depmod write a binary index of aliases.
mkdir -p kernel/lib/modules/6.1
cd kernel/lib/modules/6.1
printf 'a.alias=pci:v*\0a.alias=virtio:d00000002v*\0b_c.alias=fs-ext4\0' > modules.builtin.modinfo
printf 'kernel/a.ko\nkernel/b-c.ko\n' > modules.builtin
: > modules.order
depmod -b "$tree/kernel" 6.1
# The first byte picks the reader: 0 binary index, 2 text.
for name in modules.builtin.bin modules.builtin.alias.bin; do
    { printf '\0'; cat "$name"; } > "$out/module_index/$name"
done
{
    printf '\2'
    printf 'kernel/a.ko.xz: kernel/b.ko\nkernel/b.ko:\nalias pci:v* a\nsoftdep a pre: b post: pci:v1\nweakdep a b\n'
    printf 'kernel/c.ko\n'
} > "$out/module_index/text"
