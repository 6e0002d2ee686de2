# In the small machine: mounts the file system, runs the command, writes its exit code, and switches the machine off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
. /mnt/share/settings
stty -F /dev/ttyS1 raw -echo 2>/dev/null
ip link set lo up
hostname "$name"
log=/mnt/share/log disk=/dev/vda odd=/mnt/odd
note() { echo "$(cut -d' ' -f1 /proc/uptime) s: $*" >>$log; }

# Users that the packages would have made.
grep -q ^_rpc: /etc/passwd || echo '_rpc:x:98:65534::/run/rpcbind:/usr/sbin/nologin' >>/etc/passwd
grep -q ^statd: /etc/passwd || echo 'statd:x:99:65534::/var/lib/nfs:/usr/sbin/nologin' >>/etc/passwd
if [ -n "$address" ]; then
  for link in /sys/class/net/e*; do
    ip addr add "$address/24" dev "${link##*/}"
    ip link set "${link##*/}" up
  done
fi

# make PROGRAM… MOUNT-OPTIONS…: makes the file system on the disk; its output is in the log.
make() { "$@" >>$log 2>&1 || note "failed: $*"; }

portmapper() {
  [ -e /run/rpcbind.lock ] && return
  mkdir -p /run/rpcbind
  rpcbind -w 2>>$log
  rpc.statd --no-notify 2>>$log
}

nfs_server() {
  make mkfs.ext4 -q $disk
  mount $disk /srv/odd
  chmod 1777 /srv/odd
  modprobe nfsd
  mount -t nfsd nfsd /proc/fs/nfsd
  mkdir -p /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/v4recovery /run/sendsigs.omit.d
  touch /var/lib/nfs/etab /var/lib/nfs/rmtab /var/lib/nfs/state
  chown -R root /var/lib/nfs
  portmapper
  # fsid=0 makes it the root of version 4: the machine's own root, an overlay, cannot be exported.
  exportfs -i -o rw,sync,fsid=0,no_root_squash,no_subtree_check,insecure '*:/srv/odd' 2>>$log
  rpc.mountd --manage-gids 2>>$log
  # The first lock waits until a server that has just been started knows that no client comes back: 90 s by default.
  echo 10 >/proc/fs/nfsd/nfsv4leasetime
  echo 10 >/proc/fs/nfsd/nfsv4gracetime
  echo 10 >/proc/sys/fs/nfs/nlm_grace_period 2>/dev/null
  rpc.nfsd --grace-time 10 --lease-time 10 4 2>>$log || rpc.nfsd 4
  echo Y >/proc/fs/nfsd/v4_end_grace 2>/dev/null
}

# nfs_client SERVER MOUNT-OPTIONS
nfs_client() {
  local export=/
  case $2 in vers=3*) export=/srv/odd ;; esac
  portmapper
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
    timeout 30 mount -t nfs -o "$2" "$1:$export" $odd 2>>$log && break
    sleep 1
  done
  timeout 30 mount -t nfs -o "$2,nosharecache" "$1:$export" /mnt/odd2 2>>$log || note 'no second mount'
}

cifs_server() {
  make mkfs.ext4 -q $disk
  mount $disk /srv/odd
  chmod 1777 /srv/odd
  mkdir -p /run/samba /var/lib/samba/private /var/cache/samba /var/log/samba
  cat >/run/smb.conf <<'SMB'
[global]
map to guest = bad user
guest account = root
server role = standalone server
load printers = no
disable spoolss = yes
log file = /run/smb.log
[odd]
path = /srv/odd
guest ok = yes
read only = no
force user = root
strict locking = auto
SMB
  smbd -D -s /run/smb.conf
}

# cifs_client SERVER MOUNT-OPTIONS
cifs_client() {
  modprobe cifs
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    mount -t cifs -o "guest,vers=3.1.1$2" "//$1/odd" $odd 2>>$log && break
    sleep 1
  done
  mount -t cifs -o "guest,vers=3.1.1,nosharesock$2" "//$1/odd" /mnt/odd2 2>>$log || note 'no second mount'
}

# serve KIND MOUNT-OPTIONS: this machine is server and client, or the client of the other one.
serve() {
  [ -n "$server" ] || "$1_server"
  "$1_client" "${server:-127.0.0.1}" "$2"
}

# A directory of the file system that takes no notice of case.
casefold() {
  mkdir /srv/odd/folded
  chattr +F /srv/odd/folded
  mount --bind /srv/odd/folded $odd
}

prepare() {
  case $1 in
    '') ;;
    ext4) make mkfs.ext4 -q $disk; mount $disk $odd ;;
    ext4-casefold) make mkfs.ext4 -q -O casefold -E encoding=utf8 $disk; mount $disk /srv/odd; casefold ;;
    ext2) make mkfs.ext2 -q $disk; mount -t ext2 $disk $odd ;;
    xfs) make mkfs.xfs -q -f $disk; mount $disk $odd ;;
    btrfs) make mkfs.btrfs -q -f $disk; mount $disk $odd ;;
    vfat) make mkfs.vfat -F 32 $disk; mount -t vfat $disk $odd ;;
    exfat) make mkfs.exfat $disk; mount -t exfat $disk $odd ;;
    ntfs3) make mkfs.ntfs -Q -F $disk; mount -t ntfs3 $disk $odd ;;
    f2fs) make mkfs.f2fs -f $disk; mount -t f2fs $disk $odd ;;
    f2fs-casefold) make mkfs.f2fs -f -O casefold -C utf8 $disk; mount -t f2fs $disk /srv/odd; casefold ;;
    jfs) make mkfs.jfs -q $disk; mount -t jfs $disk $odd ;;
    overlay)
      make mkfs.ext4 -q $disk
      mount $disk /srv/odd
      mkdir /srv/odd/{lower,upper,work}
      mount -t overlay -o lowerdir=/srv/odd/lower,upperdir=/srv/odd/upper,workdir=/srv/odd/work odd $odd
      ;;
    nfs) serve nfs vers=4.2 ;;
    nfs40) serve nfs vers=4.0 ;;
    nfs3) serve nfs vers=3 ;;
    nfs3-nolock) serve nfs vers=3,nolock ;;
    cifs) serve cifs '' ;;
    cifs-nobrl) serve cifs ,nobrl ;;
    *) note "no such file system: $1" ;;
  esac
}

prepare "$file_system" >>$log 2>&1
if [ -n "$file_system" ] && ! mountpoint -q $odd; then
  { echo "$file_system could not be mounted:"; cat $log; dmesg | tail -5; } >/dev/ttyS1 2>&1
  echo 125 >/mnt/share/status
else
  (cd "$directory" && exec setsid -w bash -c "$command") </dev/null >/dev/ttyS1 2>&1
  echo $? >/mnt/share/status
fi
dmesg >/mnt/share/dmesg
echo o >/proc/sysrq-trigger
sleep 60
