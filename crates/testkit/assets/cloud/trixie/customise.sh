# GPT with a BIOS boot partition, NetworkManager, no /etc/sysctl.conf, a data disk that stayed behind.
chmod 0600 /etc/NetworkManager/system-connections/lan.nmconnection
mkdir -p /srv/backup
sed -i 's/^#PermitRootLogin.*/PermitRootLogin yes/' /etc/ssh/sshd_config
old_life
grub-install /dev/sda
update-initramfs -u -k all
update-grub
finish
