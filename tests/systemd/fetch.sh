#!/bin/sh
# Fetches the systemd of another Debian release and unpacks it into a folder, for the machine of these tests to boot.
# Nothing is installed here; signatures are checked with this system's keys of Debian.
#
#   fetch.sh SUITE FOLDER      SUITE: bullseye has systemd 247, JetPack 6 has 249; bookworm-backports 254, JetPack 7 255
set -eu
suite=$1 folder=$2
fail() { echo "error: $1" >&2; echo "  fix: $2" >&2; exit 69; }
[ ! -e "$folder/usr/lib/systemd/systemd" ] || exit 0
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keys" ] || fail "$keys is missing" "apt-get install debian-archive-keyring"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/lists/partial" "$scratch/archives/partial" "$scratch/root/usr"
: > "$scratch/status"
echo "deb [signed-by=$keys] http://deb.debian.org/debian $suite main" > "$scratch/sources.list"
case "$suite" in
*-backports) ;;
*) echo "deb [signed-by=$keys] http://deb.debian.org/debian-security $suite-security main" >> "$scratch/sources.list" ;;
esac
set -- -qq -o "Dir::State=$scratch" -o "Dir::State::status=$scratch/status" -o "Dir::Cache=$scratch" \
    -o "Dir::Etc::sourcelist=$scratch/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o APT::Sandbox::User=root -o Acquire::Languages=none
apt-get "$@" update || fail "no lists of Debian $suite" "is deb.debian.org reached, and is $suite still there?"
# libsystemd-shared is a package of its own since 252.
packages=$(apt-cache "$@" pkgnames | grep -Ex 'systemd|udev|lib(systemd0|systemd-shared|nss-systemd|pam-systemd|udev1)')
(cd "$scratch" && apt-get "$@" download $packages) ||
    fail "no systemd of Debian $suite" "is deb.debian.org reached, and is $suite still there?"

# As it lies on a system whose /lib, /bin and /sbin are links into /usr.
for name in lib bin sbin; do
    mkdir -p "$scratch/root/usr/$name"
    ln -s "usr/$name" "$scratch/root/$name"
done
for package in "$scratch"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$scratch/root"
done
rm -f "$scratch/root/lib" "$scratch/root/bin" "$scratch/root/sbin"
mkdir -p "$(dirname "$folder")"
rm -rf "$folder"
mv "$scratch/root" "$folder"
