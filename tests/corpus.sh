#!/usr/bin/env bash
# Gets the real texts of tests/corpus.rs: Debian's word list and Unicode tables, unpacked into the directory that is given. Without
# Debian or its packages it does nothing; the test then makes its own text.
set -u
dest=${1:?usage: corpus.sh DIRECTORY}
[ -e "$dest/complete" ] && exit 0
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || exit 0
mkdir -p "$dest/debs" && cd "$dest/debs" || exit 0
apt-get download -qq wamerican unicode-data 2>/dev/null ||
    { apt-get update -qq 2>/dev/null; apt-get download -qq wamerican unicode-data 2>/dev/null; } || exit 0
for package in *.deb; do dpkg-deb -x "$package" "$dest" || exit 0; done
cd "$dest" && rm -rf debs && touch complete
