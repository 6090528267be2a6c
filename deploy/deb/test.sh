#!/bin/sh
# Installs the package in a bare Debian 12 of its own, without a network, runs it, upgrades it, purges it. As root.
#
#   test.sh PACKAGE.deb [ROOT]      ROOT: made by debootstrap where it is missing, and kept; nothing in it is changed
set -eu
package=$(realpath "$1") base=${2:-build-work/debian-12}
[ "$(id -u)" = 0 ] || { echo "error: needs root (mount, chroot)" >&2; exit 78; }
if [ ! -d "$base/usr" ]; then
    command -v debootstrap > /dev/null || { echo "error: debootstrap is missing" >&2; echo "  fix: apt-get install debootstrap" >&2; exit 69; }
    debootstrap --variant=minbase --include=python3,systemd,udev bookworm "$base"
fi
base=$(realpath "$base")

# In namespaces of its own: mounts go with it, and there is no network.
exec unshare --mount --net --pid --fork --kill-child sh -eu -s "$package" "$base" << 'END'
package=$1 base=$2
top=$(mktemp -d)
mount -t tmpfs -o size=2g tmpfs "$top"
mkdir "$top/upper" "$top/work" "$top/root"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$top/upper,workdir=$top/work" "$top/root"
root=$top/root
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
cp "$package" "$root/tmp/edgeclip.deb"
in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"; }
say() { echo "-- $*"; }

say install
in_root dpkg --install /tmp/edgeclip.deb
in_root getent passwd edgeclip > /dev/null
[ "$(in_root stat -c %U:%a /var/lib/edgeclip)" = edgeclip:750 ]
[ "$(in_root stat -c %U:%a /etc/edgeclip/credentials)" = root:700 ]
for unit in edgeclip.service; do [ -f "$root/usr/lib/systemd/system/$unit" ]; done

say run, as the service does
as_service() { in_root setpriv --reuid edgeclip --regid edgeclip --clear-groups env EDGECLIP_STATE=/var/lib/edgeclip EDGECLIP_CACHE=/var/cache/edgeclip "$@"; }
as_service edgeclip --version
in_root /opt/edgeclip/bin/python3 -c "import cv2, numpy; [cv2.imwrite(f'/tmp/{n}.png', numpy.random.default_rng(n).integers(0, 256, (240, 320, 3), 'uint8')) for n in range(4)]"
as_service edgeclip run --source '/tmp/*.png' --label cat --label dog
in_root env EDGECLIP_STATE=/var/lib/edgeclip sh -c 'edgeclip bundle export /opt/edgeclip/lib/python3*/site-packages/edgeclip/engines/nano --out /tmp/nano.tar'
in_root env EDGECLIP_STATE=/var/lib/edgeclip edgeclip bundle install /tmp/nano.tar
as_service edgeclip run --bundle current --source '/tmp/*.png' --label cat --label dog
as_service edgeclip bundle list
in_root edgeclip bundle keygen --out /root/site.pem

say upgrade keeps the configuration
echo "# mine" >> "$root/etc/edgeclip/edgeclip.yaml"
in_root dpkg --install /tmp/edgeclip.deb
grep -q "# mine" "$root/etc/edgeclip/edgeclip.yaml"

say remove keeps configuration and state
in_root dpkg --remove edgeclip
[ ! -e "$root/opt/edgeclip" ]
grep -q "# mine" "$root/etc/edgeclip/edgeclip.yaml"
[ -L "$root/var/lib/edgeclip/bundles/current" ]

say purge leaves nothing
in_root dpkg --purge edgeclip
rm "$root/tmp/edgeclip.deb" "$root/tmp/nano.tar"
left=$(find "$root" -xdev -path "$root/proc" -prune -o -path "$root/dev" -prune -o -name '*edgeclip*' -print)
[ -z "$left" ] || { echo "left behind: $left" >&2; exit 1; }
! in_root getent passwd edgeclip
say "all well"
END
