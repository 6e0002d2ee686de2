#!/usr/bin/env bash
# Starts a small machine (qemu) with Debian's stock kernel, mounts a file system in it that the kernel of this machine
# may not have, and runs a command there.
#
#   machine.sh setup                     downloads and unpacks what is needed; `run` and `pair` do it when it is missing
#   machine.sh run FILE-SYSTEM COMMAND   the command's output, and its exit code
#   machine.sh pair FILE-SYSTEM A B      two machines on one network: A runs beside the file server, B on a client of it
#
# The machine sees the root of this machine read-only, and a tmpfs over it: what is written there is gone afterwards.
# The file system is at /mnt/odd, on a disk of its own; a network file system is served by the machine itself (or by the
# first of two), and mounted once more at /mnt/odd2, as another client would. Nothing is installed: the packages are
# downloaded by apt and unpacked. Settings: MACHINE_DIR (target/machine), MACHINE_TIMEOUT (300 s), MACHINE_ACCEL (kvm or tcg).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=${MACHINE_DIR:-$root/target/machine}
tools=$work/tools
packages=(qemu-system-x86 busybox-static kmod keyutils iproute2 attr
  dosfstools exfatprogs f2fs-tools ntfs-3g jfsutils e2fsprogs xfsprogs btrfs-progs
  nfs-kernel-server nfs-common rpcbind samba cifs-utils)

say() { echo "machine.sh: $*" >&2; }

# The newest kernel of a longer supported series that this Debian has.
newest_kernel() {
  local found
  found=$(apt-cache search '^linux-image-6\.[0-9.]+\+deb[0-9]+-amd64$' | cut -d' ' -f1 | sort -V | tail -1)
  [ -n "$found" ] || found=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
  echo "$found"
}

setup() {
  [ -e "$work/ready" ] && return
  mkdir -p "$work/debs/partial"
  local kernel version directory
  kernel=$(newest_kernel)
  [ -n "$kernel" ] || { apt-get update -qq >&2; kernel=$(newest_kernel); }
  say "downloading $kernel and the tools for it"
  local apt=(apt-get -o APT::Sandbox::User=root -o "Dir::Cache::archives=$work/debs" -o Debug::NoLocking=1 -qq)
  "${apt[@]}" -y --no-install-recommends --download-only install "${packages[@]}" >&2
  # A package that is installed here already is not downloaded by `install`, and its files are seen through the root.
  (cd "$work/debs" && "${apt[@]}" download "$kernel" >&2)
  rm -rf "$tools" && mkdir -p "$tools"
  for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$tools"; done
  # /bin, /lib… are links into /usr on this machine, and a directory of the upper layer would hide them.
  for directory in bin sbin lib lib64 lib32; do
    [ -d "$tools/$directory" ] && [ ! -L "$tools/$directory" ] || continue
    mkdir -p "$tools/usr/$directory" && cp -al "$tools/$directory/." "$tools/usr/$directory/" && rm -rf "${tools:?}/$directory"
  done
  version=$(ls "$tools/usr/lib/modules")
  ln -sfn usr/lib "$tools/lib" # depmod looks in lib/modules
  if command -v depmod >/dev/null; then depmod -b "$tools" "$version"; else (exec -a depmod "$tools/usr/bin/kmod" -b "$tools" "$version"); fi 2>/dev/null
  rm "$tools/lib"
  first_files "$version"
  # Some machines have a /dev/kvm that can run no kernel: it is tried once.
  echo tcg >"$work/accel"
  echo "$version" >"$work/ready"
  if [ -w /dev/kvm ] && MACHINE_ACCEL=kvm MACHINE_TIMEOUT=15 start probe '' true '' '' '' >/dev/null 2>&1; then echo kvm >"$work/accel"; fi
}

# The initial file system: busybox, the modules for the way to this machine's root, and the script that goes it.
first_files() {
  local initial=$work/initial modules=$tools/usr/lib/modules/$1 busybox module file name
  busybox=$tools/usr/bin/busybox
  [ -x "$busybox" ] || busybox=$(command -v busybox)
  rm -rf "$initial" && mkdir -p "$initial"/{bin,mod,proc,sys,dev,host,tools,rw,root}
  cp "$busybox" "$initial/bin/"
  : >"$initial/mod/order"
  for module in virtio_pci virtio_blk virtio_net 9pnet_virtio 9p overlay; do
    # A line of modules.dep is "module: what it needs", of which the first is loaded last.
    for file in $(grep -E "/$module\.ko(\.xz|\.zst)?:" "$modules/modules.dep" | tr -d : | tr ' ' '\n' | tac); do
      name=$(basename "$file"); name=${name%.xz}
      grep -qx "$name" "$initial/mod/order" && continue
      case $file in *.xz) xz -dc "$modules/$file" >"$initial/mod/$name" ;; *) cp "$modules/$file" "$initial/mod/$name" ;; esac
      echo "$name" >>"$initial/mod/order"
    done
  done
  cp "$here/first.sh" "$initial/init"
  chmod +x "$initial/init"
  ln -sf busybox "$initial/bin/sh"
  (cd "$initial" && "$busybox" find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1 >"$work/initial.gz")
}

# start NAME FILE-SYSTEM COMMAND ADDRESS SERVER NETWORK: starts a machine, and waits until it has ended.
start() {
  local version run=$work/run/$$-$1 accel status=0 network=()
  version=$(cat "$work/ready")
  accel=${MACHINE_ACCEL:-$(cat "$work/accel")}
  rm -rf "$run" && mkdir -p "$run"
  cp "$here/guest.sh" "$run/guest.sh"
  printf '%s=%q\n' name "$1" file_system "$2" command "$3" address "$4" server "$5" directory "$PWD" >"$run/settings"
  truncate -s 1024M "$run/disk"
  [ -n "$6" ] && network=(-device "virtio-net-pci,netdev=n,mac=52:54:00:00:00:0${4##*.}" -netdev "$6")
  local qemu=$tools/usr/bin/qemu-system-x86_64 libraries=$tools/usr/lib/x86_64-linux-gnu
  timeout --foreground "${MACHINE_TIMEOUT:-300}" env LD_LIBRARY_PATH="$libraries" QEMU_MODULE_DIR="$libraries/qemu" \
    "$qemu" -L "$tools/usr/share/qemu" -L "$tools/usr/share/seabios" -L "$tools/usr/lib/ipxe/qemu" \
    -nodefaults -no-user-config -no-reboot -display none -M "q35,accel=$accel" -cpu "$([ "$accel" = kvm ] && echo host || echo max)" -smp 2 -m 1536 \
    -kernel "$tools/boot/vmlinuz-$version" -initrd "$work/initial.gz" \
    -append "console=ttyS0 quiet loglevel=4 panic=-1 net.ifnames=0 mitigations=off rdinit=/init" \
    -chardev "file,id=c0,path=$run/console" -serial chardev:c0 -chardev stdio,id=c1,signal=on -serial chardev:c1 \
    -object rng-random,id=r,filename=/dev/urandom -device virtio-rng-pci,rng=r \
    -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap -device virtio-9p-pci,fsdev=host,mount_tag=host \
    -fsdev "local,id=tools,path=$tools,security_model=none,readonly=on" -device virtio-9p-pci,fsdev=tools,mount_tag=tools \
    -fsdev "local,id=share,path=$run,security_model=none" -device virtio-9p-pci,fsdev=share,mount_tag=share \
    -drive "file=$run/disk,if=none,id=d0,format=raw,cache=unsafe" -device virtio-blk-pci,drive=d0 \
    "${network[@]}" </dev/null || status=$?
  rm -f "$run/disk"
  if [ -e "$run/status" ]; then
    status=$(cat "$run/status")
    rm -rf "$run"
  else
    say "the machine $1 did not end by itself ($status): see $run"
    [ "$status" != 0 ] || status=126
  fi
  return "$status"
}

pair() {
  # A network of two: each end is a Unix socket.
  local network=$work/run/$$.net first second status=0
  mkdir -p "$work/run"
  start a "$1" "$2" 10.9.0.1 '' "dgram,id=n,local.type=unix,local.path=$network.a,remote.type=unix,remote.path=$network.b" | sed -u 's/^/a: /' &
  first=$!
  start b "$1" "$3" 10.9.0.2 10.9.0.1 "dgram,id=n,local.type=unix,local.path=$network.b,remote.type=unix,remote.path=$network.a" | sed -u 's/^/b: /' &
  second=$!
  wait $first || status=$?
  wait $second || status=$?
  rm -f "$network.a" "$network.b"
  return $status
}

case ${1:-} in
  setup) setup ;;
  run) setup; start one "${2?a file system, or nothing}" "${3:?a command}" '' '' '' ;;
  pair) setup; pair "${2:?a file system}" "${3:?two commands}" "${4:?two commands}" ;;
  *) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 2 ;;
esac
