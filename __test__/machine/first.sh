#!/bin/busybox sh
# The small machine's first process: mounts the root of the machine that runs it, the unpacked packages and a tmpfs over
# each other, and goes on with guest.sh there.
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
while read -r module; do $B insmod "/mod/$module" || echo "no $module"; done </mod/order
share=trans=virtio,version=9p2000.L,msize=512000
$B mount -t 9p -o $share,ro,cache=loose host /host
$B mount -t 9p -o $share,ro,cache=loose tools /tools
$B mount -t tmpfs -o size=70% rw /rw
$B mkdir /rw/upper /rw/work
$B mount -t overlay -o lowerdir=/tools:/host,upperdir=/rw/upper,workdir=/rw/work root /root
for directory in proc sys dev; do
  $B mkdir -p /root/$directory
  $B mount --move /$directory /root/$directory
done
$B mkdir -p /root/mnt/share /root/mnt/odd /root/mnt/odd2 /root/srv/odd /root/dev/pts /root/dev/shm
$B mount -t 9p -o $share,cache=none share /root/mnt/share
$B mount -t devpts devpts /root/dev/pts
$B mount -t tmpfs shm /root/dev/shm
$B mount -t tmpfs run /root/run
exec $B chroot /root /bin/bash /mnt/share/guest.sh
