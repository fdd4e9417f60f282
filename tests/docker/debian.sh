#!/usr/bin/env bash
# Makes a folder the root of a small Debian, without any registry of images. As root.
#   debian.sh FOLDER RELEASE [PACKAGE,..]
set -euo pipefail
folder=$1 release=$2 packages=${3:-}
if ! command -v debootstrap >/dev/null; then
  [ "$(id -u)" = 0 ] || { echo "error: no debootstrap; install it" >&2; exit 2; }
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends debootstrap; } >&2
fi
# The mirror that this system itself is installed from.
mirror=$(find /etc/apt -name '*.list' -o -name '*.sources' | xargs -r \
  awk '/^(deb|URIs:)/ { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z]+:\/\//) { print $i; exit } }')
debootstrap --variant=minbase ${packages:+--include="$packages"} "$release" "$folder" "${mirror%%$'\n'*}" >&2
