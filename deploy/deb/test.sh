#!/bin/sh
# Installs the package in a bare Debian of its own, without a network, runs it, upgrades it, purges it. As root.
#
#   test.sh PACKAGE.deb [ROOT]      ROOT: made by debootstrap where it is missing, and kept; nothing in it is changed
#
# A package of another architecture runs under qemu. For a Python that no Debian has (3.10, 3.12), DEB_INTERPRETER names
# one, which is put where the package expects it. PHOTOGRAPHS, scikit-image's package directory, lets the demo run too.
set -eu
package=$(realpath "$1")
arch=$(dpkg-deb --field "$package" Architecture)
python=$(dpkg-deb --field "$package" Version | sed -n 's/.*+py//p')
fail() { echo "error: $1" >&2; echo "  fix: $2" >&2; exit "$3"; }
[ "$(id -u)" = 0 ] || fail "needs root (mount, chroot)" "run it as root" 78

case "$python" in
3.13) suite=trixie ;;
*) suite=bookworm ;;
esac
interpreter=
case "$python" in
3.11 | 3.13) ;;
*)
    interpreter=${DEB_INTERPRETER:-python$python}
    prefix=$("$interpreter" -c 'import sys; print(sys.base_prefix)') ||
        fail "no Debian has Python $python, and none is here" "DEB_INTERPRETER=/path/to/python$python" 69
    [ "$arch" = "$(dpkg --print-architecture)" ] ||
        fail "no Debian has Python $python, and one of $arch is not here" "test DEB_PYTHON=3.11 or 3.13 on $arch" 69
    ;;
esac

if [ "$arch" != "$(dpkg --print-architecture)" ]; then
    case "$arch" in
    arm64) cpu=aarch64 ;;
    amd64) cpu=x86_64 ;;
    *) cpu=$arch ;;
    esac
    grep -qs enabled "/proc/sys/fs/binfmt_misc/qemu-$cpu" ||
        fail "this machine cannot run $arch" \
            "apt-get install qemu-user-static binfmt-support && update-binfmts --enable qemu-$cpu" 69
fi
base=${2:-build-work/$suite-$arch}
if [ ! -e "$base/usr/bin/python3" ] || [ -d "$base/debootstrap" ]; then
    command -v debootstrap > /dev/null || fail "debootstrap is missing" "apt-get install debootstrap" 69
    rm -rf "$base"
    debootstrap --arch="$arch" --variant=minbase --include=procps,python3,systemd,udev "$suite" "$base"
fi
base=$(realpath "$base")

# In namespaces of its own: mounts go with it, and there is no network.
exec unshare --mount --net --pid --fork --kill-child sh -eu -s \
    "$package" "$base" "$python" "${interpreter:+$prefix}" "${PHOTOGRAPHS:-}" << 'END'
package=$1 base=$2 python=$3 prefix=$4 photographs=$5
top=$(mktemp -d)
mount -t tmpfs -o size=2g tmpfs "$top"
mkdir "$top/upper" "$top/work" "$top/root"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$top/upper,workdir=$top/work" "$top/root"
root=$top/root
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
cp "$package" "$root/tmp/edgeclip.deb"
in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"; }
as_service() { in_root setpriv --reuid edgeclip --regid edgeclip --init-groups env EDGECLIP_STATE=/var/lib/edgeclip EDGECLIP_CACHE=/var/cache/edgeclip "$@"; }
say() { echo "-- $*"; }
# Not under qemu: LiteRT asks /sys for its processor, is told of another's, and crashes.
[ "$(in_root uname -m)" != "$(uname -m)" ] || mount -t sysfs -o ro sysfs "$root/sys"
force=
if [ -n "$prefix" ]; then
    mkdir "$root/usr/lib/python$python"
    mount --bind "$prefix/lib/python$python" "$root/usr/lib/python$python"
    mount -t tmpfs tmpfs "$root/usr/lib/python$python/site-packages"
    cp "$prefix/bin/python$python" "$root/usr/bin/python$python"
    [ ! -e "$prefix/lib/libpython$python.so.1.0" ] || cp "$prefix/lib/libpython$python.so.1.0" "$root/usr/lib/"
    force=--force-depends
    say "with $prefix as Python $python"
fi

say "install on $(in_root uname -m), $(. "$root/etc/os-release" && echo "$PRETTY_NAME")"
in_root dpkg $force --install /tmp/edgeclip.deb
in_root getent passwd edgeclip > /dev/null
[ "$(in_root stat -c %U:%a /var/lib/edgeclip)" = edgeclip:750 ]
[ "$(in_root stat -c %U:%a /etc/edgeclip/credentials)" = root:700 ]
[ -f "$root/usr/lib/systemd/system/edgeclip.service" ]
# A unit that this systemd does not understand is a warning there.
warned=$(in_root systemd-analyze verify edgeclip.service 2>&1) || true
[ -z "$warned" ] || { echo "$warned" >&2; exit 1; }

say run, as the service does
as_service edgeclip --version
as_service edgeclip doctor
in_root /opt/edgeclip/bin/python3 -c "import cv2, numpy; [cv2.imwrite(f'/tmp/{n}.png', numpy.random.default_rng(n).integers(0, 256, (240, 320, 3), 'uint8')) for n in range(4)]"
as_service edgeclip run --source '/tmp/*.png' --label cat --label dog
in_root env EDGECLIP_STATE=/var/lib/edgeclip sh -c 'edgeclip bundle export /opt/edgeclip/lib/python3*/site-packages/edgeclip/engines/nano --out /tmp/nano.tar'
in_root env EDGECLIP_STATE=/var/lib/edgeclip edgeclip bundle install /tmp/nano.tar
as_service edgeclip run --bundle current --source '/tmp/*.png' --label cat --label dog
as_service edgeclip bundle list
in_root edgeclip bundle keygen --out /root/site.pem
if [ -n "$photographs" ]; then
    mkdir -p "$root/tmp/photographs/skimage"
    mount --bind "$photographs" "$root/tmp/photographs/skimage"
    as_service env PYTHONPATH=/tmp/photographs edgeclip run --source demo --max-frames 10 --label "a cat" --label "a motorcycle" --label "a cup of coffee" --json > "$top/decisions"
    tail -n 1 "$top/decisions"
    grep -q '"label":"a cat"' "$top/decisions"
    umount "$root/tmp/photographs/skimage"
fi

say upgrade keeps the configuration
echo "# mine" >> "$root/etc/edgeclip/edgeclip.yaml"
in_root dpkg $force --install /tmp/edgeclip.deb
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
