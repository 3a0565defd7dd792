mke2fs -q -t ext4 -U c01df175-0000-4000-8000-000000000002 -E hash_seed=c01df175-0000-4000-8000-0000000000fe /dev/sda2
mount /dev/sda2 /mnt
cp -a /boot/. /mnt/
rm -rf /boot/*
umount /mnt
cat > /etc/fstab <<'FSTAB'
# <file system> <mount point>   <type>  <options>       <dump>  <pass>
UUID=c01df175-0000-4000-8000-000000000001 /     ext4 errors=remount-ro 0 1
UUID=c01df175-0000-4000-8000-000000000002 /boot ext4 defaults          0 2
FSTAB
mount /boot
install_bootloader
umount /boot
finish
