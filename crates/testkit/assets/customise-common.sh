# The guest runs this as its init, once, on its old controller; everything that an installer would
# do on the real machine is done by the guest's own tools.
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
export DEBIAN_FRONTEND=noninteractive
exec </dev/null >/dev/ttyS0 2>&1
set -eux
mount -o remount,rw /

finish() {
    rm -rf /var/log/*.log /var/cache/debconf/*-old /var/lib/dpkg/*-old
    sync
    mount -o remount,ro /
    sync
    echo COLDFIT-CUSTOMISED
    poweroff -f
}

# As Debian's installer does when it is asked for a targeted initramfs.
install_bootloader() {
    cat > /etc/initramfs-tools/conf.d/driver-policy <<'POLICY'
# Driver inclusion policy selected during installation
# Note: this setting overrides the value set in the file
# /etc/initramfs-tools/initramfs.conf
MODULES=dep
POLICY
    echo 'grub-pc grub-pc/install_devices multiselect /dev/sda' | debconf-set-selections
    grub-install /dev/sda
    update-initramfs -u -k all
    update-grub
}
