#!/bin/sh
# Makes the Debian package: everything edgeclip needs but Python itself, in /opt/edgeclip. Nothing is downloaded on a device.
#
#   build.sh ARCH PYTHON OUT      amd64|arm64, the device's Python (3.11 on Debian 12), a folder
#
# BUILD_PYTHON has pip and build. DEB_INTERPRETER is a Python of the device's minor version, which pip runs under: what a
# dependency needs may depend on it. The same source gives the same bytes (SOURCE_DATE_EPOCH: the last commit's time).
set -eu
arch=$1 python=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd) source=$(cd "$(dirname "$0")/../.." && pwd)
: "${BUILD_PYTHON:=python3}"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH PIP_DISABLE_PIP_VERSION_CHECK=1 LC_ALL=C TZ=UTC
umask 022  # zstd: dpkg reads it since Debian 12 and Ubuntu 22.04

case "$arch" in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*) echo "error: $arch is not amd64 or arm64" >&2; exit 2 ;;
esac
case "$python" in
3.10 | 3.11 | 3.12 | 3.13) ;;
*) echo "error: Python $python is not 3.10, 3.11, 3.12 or 3.13" >&2; exit 2 ;;
esac

# The first Python of that version: the one that was named, the one that builds, python3.N.
interpreter=
for candidate in ${DEB_INTERPRETER:-"$BUILD_PYTHON" "python$python"}; do
    minor=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null) || minor=
    [ "$minor" != "$python" ] || { interpreter=$candidate; break; }
done
[ -n "$interpreter" ] || {
    echo "error: no Python $python here, which says what the package's dependencies are" >&2
    echo "  fix: install one, or name it: make deb DEB_PYTHON=$python DEB_INTERPRETER=/path/to/python$python" >&2
    exit 69
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
site=$root/opt/edgeclip/lib/python$python/site-packages
mkdir -p "$out" "$site" "$root/opt/edgeclip/bin" "$root/DEBIAN" "$root/usr/bin"

echo "edgeclip's wheel"
"$BUILD_PYTHON" -m build --wheel --outdir "$work/wheel" "$source" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
wheel=$(echo "$work"/wheel/edgeclip-*.whl)
version=$(basename "$wheel" | cut -d- -f2)+py$python

echo "dependencies for Python $python, $machine"
abi=cp$(echo "$python" | tr -d .)
"$BUILD_PYTHON" -m pip --python "$interpreter" install --quiet --no-warn-conflicts --target "$site" --no-compile --only-binary=:all: --implementation cp \
    --python-version "$python" --abi "$abi" --abi abi3 --abi none \
    --platform "manylinux_2_28_$machine" --platform "manylinux_2_27_$machine" --platform "manylinux_2_17_$machine" \
    --platform "manylinux2014_$machine" --constraint "$here/constraints.txt" "$wheel[sign]"

# Commands, compilers for phones' chips and tests of others, and what says when and from where it was installed.
rm -rf "$site/bin" "$site/ai_edge_litert/vendors" "$site/ai_edge_litert/tools"
find "$site" -name direct_url.json -delete -o -name REQUESTED -delete -o -name INSTALLER -delete -o -name RECORD -delete
find "$site" -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -rf {} +
find "$site" -type f -exec chmod 644 {} +

# The environment, as `python3 -m venv --system-site-packages` makes it: JetPack's TensorRT and GStreamer are seen through it.
ln -s "/usr/bin/python$python" "$root/opt/edgeclip/bin/python3"
printf 'home = /usr/bin\ninclude-system-site-packages = true\nversion = %s\n' "$python" > "$root/opt/edgeclip/pyvenv.cfg"
cat > "$root/opt/edgeclip/bin/edgeclip" <<'END'
#!/opt/edgeclip/bin/python3 -s
import sys

from edgeclip.__main__ import start

sys.exit(start())
END
chmod 755 "$root/opt/edgeclip/bin/edgeclip"
ln -s /opt/edgeclip/bin/edgeclip "$root/usr/bin/edgeclip"

put() { install -D -m "$1" "$source/$2" "$root/$3"; }
put 644 deploy/edgeclip.service usr/lib/systemd/system/edgeclip.service
put 644 deploy/sysusers.conf usr/lib/sysusers.d/edgeclip.conf
put 644 deploy/tmpfiles.conf usr/lib/tmpfiles.d/edgeclip.conf
put 644 deploy/edgeclip-gpu.conf usr/share/doc/edgeclip/examples/edgeclip-gpu.conf
put 644 deploy/99-edgeclip-cameras.rules etc/udev/rules.d/99-edgeclip-cameras.rules
put 644 deploy/edgeclip.yaml etc/edgeclip/edgeclip.yaml
mkdir -p "$root/etc/edgeclip/keys.d"
for adapter in mender rauc swupdate; do put 755 "deploy/ota/$adapter" "usr/lib/edgeclip/ota/$adapter"; done
for page in "$source"/docs/*.md; do put 644 "docs/$(basename "$page")" "usr/share/doc/edgeclip/$(basename "$page")"; done
put 644 deploy/deb/copyright usr/share/doc/edgeclip/copyright
put 644 deploy/deb/lintian-overrides usr/share/lintian/overrides/edgeclip
gzip -9n < "$source/CHANGELOG.md" > "$root/usr/share/doc/edgeclip/changelog.gz"
chmod 644 "$root/usr/share/doc/edgeclip/changelog.gz"

for script in postinst prerm postrm; do install -m 755 "$here/$script" "$root/DEBIAN/$script"; done
printf '%s\n' /etc/edgeclip/edgeclip.yaml /etc/udev/rules.d/99-edgeclip-cameras.rules > "$root/DEBIAN/conffiles"
next=$("$BUILD_PYTHON" -c 'import sys; major, minor = sys.argv[1].split("."); print(f"{major}.{int(minor) + 1}")' "$python")
size=$(du -k --apparent-size -s "$root" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@PYTHON@/$python/" -e "s/@NEXT@/$next/" -e "s/@SIZE@/$size/" \
    "$here/control" > "$root/DEBIAN/control"
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum > DEBIAN/md5sums)

find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
package=$out/edgeclip_${version}_$arch.deb
dpkg-deb --root-owner-group -Zzstd -z9 --build "$root" "$package" > /dev/null
echo "$package: $(du -h "$package" | cut -f1), $(du -sh "$root" | cut -f1) installed"
