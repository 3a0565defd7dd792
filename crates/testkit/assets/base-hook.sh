# Runs inside mmdebstrap's namespace, as its root: $1 is the tree, $2 the folder for results,
# $3 the folder with the guest's files.
# Leaves one ext4 image with one kernel, then one with two, and the kernel and initramfs for the
# boot in which the guest installs its own bootloader.
set -eu
tree=$1 out=$2 files=$3

# A second view of the tree, without what is mounted on it for the packages' scripts.
view=$out/../view
mkdir "$view"

make_filesystem() {
    mount --bind "$tree" "$view"
    # Needed for the packages still to come, but not part of an installed system.
    for unwanted in tmp var/lib/apt/lists var/cache/apt; do
        mount -t tmpfs -o mode=0755 tmpfs "$view/$unwanted"
    done
    chmod 1777 "$view/tmp"
    # A fixed UUID and hash seed: the tree decides the filesystem, not the moment.
    mke2fs -q -t ext4 -U c01df175-0000-4000-8000-000000000001 \
        -E hash_seed=c01df175-0000-4000-8000-0000000000ff,root_owner=0:0 \
        -d "$view" "$out/$1" 1600m
    umount "$view/tmp" "$view/var/lib/apt/lists" "$view/var/cache/apt" "$view"
}

cp -R "$files/." "$tree/"
chmod 0755 "$tree/usr/local/sbin/coldfit-lab-marker"
mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
ln -sf ../coldfit-lab-marker.service "$tree/etc/systemd/system/multi-user.target.wants/"
# A disk that ran before has an identity.
echo c01df175c01df175c01df175c01df175 > "$tree/etc/machine-id"
: > "$tree/etc/coldfit-lab-poweroff"

newest=$(ls "$tree/boot" | sed -n 's/^vmlinuz-//p' | sort -V | tail -n 1)
cp "$tree/boot/vmlinuz-$newest" "$out/vmlinuz"
cp "$tree/boot/initrd.img-$newest" "$out/initrd.img"
make_filesystem one-kernel.ext4

export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
older=$(apt-cache pkgnames linux-image-6.1.0- | grep -E '^linux-image-[0-9.]+-[0-9]+-amd64$' | sort -V |
    grep -v "^linux-image-$newest\$" | tail -n 1)
test -n "$older"
apt-get -q --yes -o Dpkg::Use-Pty=false -o DPkg::Chroot-Directory="$tree" install "$older"
apt-get clean
make_filesystem two-kernels.ext4
chroot "$tree" dpkg-query -W -f '${Package} ${Version}\n' > "$out/packages"
