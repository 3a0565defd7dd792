# Runs as init on a copy of the example: leaves work in the journal that only a replay brings to its
# place, and goes on writing until the machine is switched off.
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
exec </dev/null >/dev/ttyS0 2>&1
set -eu
mount -o remount,rw /
mkdir -p /srv/records
for number in $(seq 1 200); do
    echo "record $number" > /srv/records/$number
done
sync
# Freed directory blocks become revoke records.
rm -rf /srv/records
mkdir /srv/kept
for number in $(seq 1 50); do
    echo "kept $number" > /srv/kept/$number
done
echo '# written just before the power cut' >> /etc/fstab
sync
echo COLDFIT-SWITCH-OFF
while :; do
    echo x >> /srv/kept/growing
    mv /srv/kept/1 /srv/kept/moved
    sync
    mv /srv/kept/moved /srv/kept/1
    sync
done
