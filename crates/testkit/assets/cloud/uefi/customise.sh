# GPT, UEFI with the fallback path, netplan, systemd-timesyncd, cloud-init switched off by its file.
cat >> /etc/ssh/sshd_config <<'SSHD'

PermitRootLogin without-password
Match Group sftponly
	ForceCommand internal-sftp
	PasswordAuthentication no
SSHD
mkdir -p /boot/efi
mkfs.vfat -F 32 -i C01DF175 -n ESP /dev/sda1
mount /boot/efi
old_life
grub-install --target=x86_64-efi --no-nvram --force-extra-removable
update-initramfs -u -k all
update-grub
umount /boot/efi
finish
