#!/usr/bin/env bash
# Makes the image partywall-postgres:15 without any registry: Debian's PostgreSQL in a root folder of debootstrap's,
# imported. It takes its superuser's password from POSTGRES_PASSWORD, as the official image does.
set -euo pipefail
image="${1:-partywall-postgres:15}"
if docker image inspect "$image" >/dev/null 2>&1; then echo "$image is there"; exit 0; fi
if ! command -v debootstrap >/dev/null; then
  [ "$(id -u)" = 0 ] || { echo "error: no debootstrap; install it" >&2; exit 2; }
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends debootstrap; } >&2
fi
# The mirror and the release that this system itself is installed from.
mirror=$(find /etc/apt -name '*.list' -o -name '*.sources' | xargs -r \
  awk '/^(deb|URIs:)/ { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z]+:\/\//) { print $i; exit } }')
mirror=${mirror%%$'\n'*}
release=$(. /etc/os-release && echo "${VERSION_CODENAME:?}")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=postgresql "$release" "$root" "$mirror" >&2
cat >"$root/entrypoint" <<'SH'
#!/bin/bash
set -euo pipefail
: "${POSTGRES_PASSWORD:?}"
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
data=/var/lib/postgresql/data
if [ ! -s "$data/PG_VERSION" ]; then
  install -d -o postgres -g postgres "$data"
  install -m 600 -o postgres -g postgres /dev/null /tmp/password
  printf '%s' "$POSTGRES_PASSWORD" >/tmp/password
  runuser -u postgres -- "$bin/initdb" -D "$data" -A scram-sha-256 -E UTF8 --pwfile=/tmp/password --no-sync
  rm /tmp/password
  echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
fi
exec runuser -u postgres -- "$bin/postgres" -D "$data" -c listen_addresses='*' -c fsync=off
SH
chmod +x "$root/entrypoint"
tar -C "$root" -c . | docker import -c 'ENTRYPOINT ["/entrypoint"]' -c 'EXPOSE 5432' - "$image" >/dev/null
echo "$image is made"
