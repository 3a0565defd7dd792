# What every server has that ran before: an identity, a root password, an instance of cloud-init.
old_life() {
    usermod -p '$6$c0ldf1t$cJ5wIHnJ1sRfM8eZ0wUhQ0tQ2u2mXr1y9vTqj5mW0n3k4b7xKpLdEoFgVhYzCsAaBbIiNnOo6RrSsTtUuVv.0' root
    mkdir -p /var/lib/cloud/instances/old-instance/sem /var/lib/cloud/data /var/lib/cloud/sem
    echo old-instance > /var/lib/cloud/data/instance-id
    echo old-instance > /var/lib/cloud/data/previous-instance-id
    ln -sfn /var/lib/cloud/instances/old-instance /var/lib/cloud/instance
    : > /var/lib/cloud/instances/old-instance/sem/config_ssh
    : > /var/lib/cloud/instances/old-instance/sem/config_set_passwords
    : > /var/lib/cloud/instances/old-instance/boot-finished
    mkdir -p /var/lib/dhcp
    echo 'lease { interface "lan0"; fixed-address 192.0.2.10; }' > /var/lib/dhcp/dhclient.lan0.leases
    echo 'mysql -psecret' > /root/.bash_history
    test "$(ls /etc/ssh/ssh_host_*_key | wc -l)" -gt 1
    chmod 0755 /usr/local/sbin/coldfit-live /usr/local/sbin/coldfit-lab-marker
    for unit in coldfit-live coldfit-lab-marker; do
        systemctl enable "$unit.service"
    done
    # As Debian's installer does when it is asked for a targeted initramfs.
    echo MODULES=dep > /etc/initramfs-tools/conf.d/driver-policy
}
