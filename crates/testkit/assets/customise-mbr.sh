cat > /etc/fstab <<'FSTAB'
# /etc/fstab: static file system information.
#
# <file system> <mount point>   <type>  <options>       <dump>  <pass>
# / was on /dev/sda1 during installation
/dev/sda1       /               ext4    errors=remount-ro 0       1
/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto     0       0
FSTAB
echo 'GRUB_DISABLE_LINUX_UUID=true' >> /etc/default/grub
install_bootloader
finish
