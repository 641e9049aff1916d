#!/bin/bash
# usage: mk-guest-toolchain.sh DEST
#
# Makes DEST/usr, a rustc with a standard library for wasm32-wasip2, from Debian packages. For machines on
# which `rustup target add wasm32-wasip2` is not possible.
#
# Needs Debian 12 or later on x86_64, and an active Rust toolchain from rustup (its cargo and its linkers are
# used). Installs nothing and needs no root: the packages are unpacked into DEST. Downloads about 140 MB,
# keeps 512 MB, and compiles the standard library in one minute of processor time.
set -euo pipefail

say() { echo "guest toolchain: $*" >&2; }
fail() { say "$*"; exit 1; }

[ "$(uname -sm)" = "Linux x86_64" ] ||
    fail "only for Linux on x86_64, whose Debian packages the script knows; this is $(uname -sm)"
final=$(mkdir -p "$1" && cd "$1" && pwd)
# DEST gets its name at the end: an interrupted run leaves nothing that looks like a toolchain.
dest=$final.partial
rm -rf "$final" "$dest"
mkdir -p "$dest/debs"

linkers=$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin
[ -x "$linkers/wasm-component-ld" ] ||
    fail "the active Rust toolchain has no wasm-component-ld; activate one of rustup's, 1.82 or later"
cargo=$(rustup which cargo 2>/dev/null || command -v cargo)

update_lists() {
    [ "$(id -u)" = 0 ] || return 1
    say "updating the package lists"
    apt-get update -qq
}

candidate() { apt-cache policy rustc-web | awk '/Candidate:/ && $2 != "(none)" { print $2 }'; }

download() {
    local version minor llvm
    version=$(candidate)
    [ -n "$version" ] || return 1
    minor=$(echo "$version" | cut -d. -f1,2)
    llvm=$(apt-cache depends "libstd-rust-web-$minor" | awk '/Depends: libllvm/ { print $2 }')
    say "downloading rustc-web $version"
    (
        cd "$dest/debs"
        apt-get download -qq "rustc-web=$version" "libstd-rust-web-$minor=$version" \
            "libstd-rust-web-dev=$version" "rust-web-src=$version" \
            "$llvm" libz3-4 libedit2 wasi-libc 2>"$dest/apt.log"
    )
}

# Package lists older than a day may name packages that have been removed since, or an older compiler.
if [ -z "$(find /var/lib/apt/lists -name '*_Packages*' -mtime -1 -print -quit 2>/dev/null)" ]; then
    update_lists || true
fi
if ! download; then
    update_lists || fail "no rustc-web with these package lists; run 'apt-get update' as root, then try again"
    download || { cat "$dest/apt.log" >&2 || true; fail "cannot download rustc-web"; }
fi

cd "$dest"
say "unpacking"
for deb in debs/*.deb; do
    case $deb in
        # The compiler's source is large. Only the standard library's part of it is needed.
        debs/rust-web-src*)
            dpkg --fsys-tarfile "$deb" |
                tar -x --wildcards './usr/src/rustc-*/library' './usr/lib/rustlib/src*' ;;
        *) dpkg -x "$deb" . ;;
    esac
done
rm -rf debs apt.log

# The layout of a toolchain of rustup: shared libraries in lib/, linkers beside the host's standard library.
# The linkers are symbolic links and not copies, because rust-lld finds its LLVM next to its own file.
for library in usr/lib/x86_64-linux-gnu/*.so*; do
    ln -sf "x86_64-linux-gnu/$(basename "$library")" "usr/lib/$(basename "$library")"
done
ln -sfn "$linkers" usr/lib/rustlib/x86_64-unknown-linux-gnu/bin
ln -sf "$cargo" usr/bin/cargo
export LD_LIBRARY_PATH=$dest/usr/lib
if ldd usr/bin/rustc usr/lib/*.so* | grep "not found" >&2; then
    fail "the unpacked rustc needs the shared libraries above, which no downloaded package has"
fi

target=wasm32-wasip2
lib=$dest/usr/lib/rustlib/$target/lib
mkdir -p "$lib/self-contained"
cp usr/lib/wasm32-wasi/{crt1-command.o,crt1-reactor.o,libc.a} "$lib/self-contained/"

# The standard library is compiled here, once: guests then need neither nightly features nor its source. It
# has bitcode, for guests that are linked with LTO. It has no paths of this machine, which messages of panics
# would show.
say "compiling the standard library for $target"
mkdir -p std/src
cat > std/Cargo.toml <<'EOT'
[package]
name = "std-build"
version = "0.0.0"
edition = "2021"
[lib]
[workspace]
EOT
echo > std/src/lib.rs
(
    cd std
    home=${CARGO_HOME:-$HOME/.cargo}
    flags="-Cembed-bitcode=yes --remap-path-prefix=$dest/usr/src=/rustc-src"
    flags+=" --remap-path-prefix=$dest/usr/lib/rustlib/src/rust=/rustc-src --remap-path-prefix=$home=/cargo"
    for registry in "$home"/registry/src/*/; do
        flags+=" --remap-path-prefix=${registry%/}=/cargo/registry"
    done
    RUSTC=$dest/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS=$flags \
        "$cargo" build -q --release -Zbuild-std=std,panic_abort --target $target
)
find "std/target/$target/release/deps" -name 'lib*.rlib' ! -name 'libstd_build-*' -exec cp {} "$lib/" \;

rm -rf std usr/src usr/lib/rustlib/src usr/share usr/include usr/lib/wasm32-wasi
cd /
mv "$dest" "$final"
say "made $(LD_LIBRARY_PATH=$final/usr/lib "$final/usr/bin/rustc" --version)"
