# MBR, BIOS, swap before root: as an installer on an old hypervisor left it, and years of use after it.
mkswap -q -U c01df175-0000-4000-8000-0000000000b1 /dev/sda1
printf '\nPermitRootLogin no\nPasswordAuthentication no\n' >> /etc/ssh/sshd_config
old_life
grub-install /dev/sda
update-initramfs -u -k all
update-grub
finish
