#!/bin/sh
# Boots the real systemd as PID 1 of a namespace, over a writable copy of this system: nothing outside is changed.
# Called by machine.py as root inside `unshare --mount --pid --cgroup --ipc --uts --fork`.
#
#   boot.sh WORK REPOSITORY PYTHON_PREFIX SITE_PACKAGES [SYSTEMD]
#
# SYSTEMD: a folder that fetch.sh made. Its systemd takes the place of this system's, with all its tools.
set -eu
cd /
work=$1 repository=$2 prefix=$3 site=$4 systemd=${5:-}

mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/scratch" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/scratch" "$work/root"
root=$work/root

if [ -n "$systemd" ]; then
    # Nothing of this system's own is left, so that no test succeeds by it.
    dpkg-query --show --showformat='${db:Status-Abbrev} ${Package}:${Architecture}\n' \
        '*systemd*' udev libudev1 | sed -n 's/^ii  *//p' | xargs dpkg-query --listfiles | sort -u > "$work/ours"
    while read -r path; do
        [ -d "$root$path" ] || rm -f "$root$path"
    done < "$work/ours"
    cp -a "$systemd/." "$root/"
fi

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mkdir -p "$root/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero random urandom tty full; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -p "$root/dev/shm" "$root/dev/pts"
ln -s /proc/self/fd "$root/dev/fd"

# edgeclip where the unit can see it (it sees neither /root nor /home).
mkdir -p "$root/opt/edgeclip/bin" "$root/opt/edgeclip/repository" "$root/opt/edgeclip/site" "$root/opt/edgeclip/python"
mount --bind "$repository" "$root/opt/edgeclip/repository"
mount --bind "$site" "$root/opt/edgeclip/site"
mount --bind "$prefix" "$root/opt/edgeclip/python"
cat > "$root/opt/edgeclip/bin/edgeclip" <<'END'
#!/bin/sh
export LD_LIBRARY_PATH=/opt/edgeclip/python/lib
export PYTHONPATH=/opt/edgeclip/extra:/opt/edgeclip/repository:/opt/edgeclip/site
exec /opt/edgeclip/python/bin/python3 -m edgeclip "$@"
END
chmod 755 "$root/opt/edgeclip/bin/edgeclip"

# Nothing of this system's own services; the journal, and what the tests start.
rm -rf "$root/etc/systemd/system" "$root/var/log/journal"
mkdir -p "$root/etc/systemd/system" "$root/var/log/journal" "$root/etc/edgeclip"
echo 00000000000000000000000000ed6ec1 > "$root/etc/machine-id"
for unit in sysctl modules-load binfmt remount-fs update-utmp random-seed udevd udev-trigger; do  # the kernel is not ours
    ln -s /dev/null "$root/etc/systemd/system/systemd-$unit.service"
done
ln -s /dev/null "$root/etc/systemd/system/modprobe@.service"
ln -s /dev/null "$root/etc/systemd/system/proc-sys-fs-binfmt_misc.automount"
cat > "$root/etc/systemd/system/test.target" <<'END'
[Unit]
Description=edgeclip's tests
Wants=systemd-journald.service
After=systemd-journald.service
END

cd "$root"
pivot_root . mnt
umount --lazy /mnt
mount --make-rshared /  # as systemd expects of whoever starts it in a container
exec /usr/bin/env -i container=edgeclip-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    SYSTEMD_PROC_CMDLINE="systemd.unit=test.target systemd.unified_cgroup_hierarchy=1" \
    /lib/systemd/systemd --system --unit=test.target --log-target=journal-or-kmsg --show-status=0
