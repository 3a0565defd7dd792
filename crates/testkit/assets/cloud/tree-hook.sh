# Runs inside mmdebstrap's namespace, as its root: $1 is the tree, $2 the folder for results; what
# follows are the packages that lead from the first filesystem to a second (`name-` removes one).
set -eu
tree=$1 out=$2
shift 2

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

# A disk that ran before has an identity.
echo c01df175c01df175c01df175c01df175 > "$tree/etc/machine-id"
echo old-server > "$tree/etc/hostname"
newest=$(ls "$tree/boot" | sed -n 's/^vmlinuz-//p' | sort -V | tail -n 1)
cp "$tree/boot/vmlinuz-$newest" "$out/vmlinuz"
cp "$tree/boot/initrd.img-$newest" "$out/initrd.img"
make_filesystem first.ext4
chroot "$tree" dpkg-query -W -f '${Package} ${Version}\n' > "$out/packages"

if [ $# -gt 0 ]; then
    export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
    apt-get -q --yes -o Dpkg::Use-Pty=false -o DPkg::Chroot-Directory="$tree" --no-install-recommends install "$@"
    apt-get clean
    make_filesystem second.ext4
fi
