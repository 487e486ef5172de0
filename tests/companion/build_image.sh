#!/bin/bash
# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
#
# Make the image of a bare companion: Debian 12 with systemd, sshd and Python, as a vehicle comes from its maker.
# No registry of images is asked; the tarball is kept under .cache/ and made again only when this file changes.
# Prints the image's name. Needs root (mmdebstrap makes device nodes and owners as they are).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${GPS_DENIED_TEST_CACHE:-$here/../../.cache}/companion
recipe=$(sha256sum "$here/build_image.sh" | cut -c1-12)
image=localhost/gps-denied-companion-bare:$recipe
tarball=$cache/bare-$recipe.tar

mkdir -p "$cache"
exec 9>"$cache/build.lock"
flock 9 # two test runs at once: the second waits and finds the image made

if podman image exists "$image"; then
  echo "$image"
  exit 0
fi


if [ ! -s "$tarball" ]; then
  setup=$(mktemp)
  trap 'rm -f "$setup" "$tarball.partial"' EXIT
  cat >"$setup" <<'SETUP'
#!/bin/sh
set -eu
root=$1
# `pilot` administers the vehicle; the unprivileged account of the cache is made by provisioning.
chroot "$root" useradd --create-home --shell /bin/bash pilot
echo 'pilot ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/pilot"
chmod 0440 "$root/etc/sudoers.d/pilot"

cat >"$root/etc/ssh/sshd_config.d/companion.conf" <<'EOT'
PasswordAuthentication no
PermitRootLogin no
UseDNS no
AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys.d/%u
EOT
mkdir -p "$root/etc/ssh/authorized_keys.d"

# Every companion makes its own host key when it first starts.
rm -f "$root"/etc/ssh/ssh_host_*
cat >"$root/etc/systemd/system/ssh-host-key.service" <<'EOT'
[Unit]
Description=Host key of this companion
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
Before=ssh.service

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -C "" -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=ssh.service
EOT
chroot "$root" systemctl --quiet enable ssh-host-key.service ssh.service
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
  chroot "$root" systemctl --quiet mask "$unit"
done
: >"$root/etc/machine-id"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/apt "$root"/var/log/*.log \
  "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
SETUP
  chmod +x "$setup"
  SOURCE_DATE_EPOCH=1700000000 mmdebstrap --quiet --mode=root --variant=minbase --format=tar \
    --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --include=openssh-server,python3,python3-venv,rsync,sudo,systemd-sysv,dbus,procps,iproute2 \
    --customize-hook="$setup" bookworm "$tarball.partial" >&2
  mv "$tarball.partial" "$tarball"
fi

podman import --quiet --change 'CMD ["/sbin/init"]' --change 'STOPSIGNAL SIGRTMIN+3' "$tarball" "$image" >/dev/null
echo "$image"
