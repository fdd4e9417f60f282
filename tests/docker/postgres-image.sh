#!/usr/bin/env bash
# Makes the image partywall-postgres:15 without any registry: Debian's PostgreSQL in a root folder of its own, imported.
# What it takes from the environment (password, database, arguments of initdb) is what the official image takes.
#   postgres-image.sh [IMAGE [RELEASE]]   RELEASE: of Debian; that of this system unless told
set -euo pipefail
image="${1:-partywall-postgres:15}"
release="${2:-$(. /etc/os-release && echo "${VERSION_CODENAME:?}")}"
if docker image inspect "$image" >/dev/null 2>&1; then echo "$image is there"; exit 0; fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
"$(dirname "$0")/debian.sh" "$root" "$release" postgresql
cat >"$root/entrypoint" <<'SH'
#!/bin/bash
set -euo pipefail
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
if [ $# -gt 0 ] && [ "$1" != postgres ]; then exec "$@"; fi
: "${POSTGRES_PASSWORD:?}"
data=/var/lib/postgresql/data
if [ ! -s "$data/PG_VERSION" ]; then
  install -d -m 700 -o postgres -g postgres "$data"
  install -m 600 -o postgres -g postgres /dev/null /tmp/password
  printf '%s' "$POSTGRES_PASSWORD" >/tmp/password
  read -ra arguments <<<"${POSTGRES_INITDB_ARGS:-}"
  runuser -u postgres -- "$bin/initdb" -D "$data" -A scram-sha-256 -E UTF8 --pwfile=/tmp/password --no-sync "${arguments[@]}"
  rm /tmp/password
  echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
  if [ "${POSTGRES_DB:-postgres}" != postgres ]; then
    echo "CREATE DATABASE $POSTGRES_DB" | runuser -u postgres -- "$bin/postgres" --single -D "$data" postgres >/dev/null
  fi
fi
exec runuser -u postgres -- "$bin/postgres" -D "$data" -c listen_addresses='*' -c fsync=off
SH
chmod +x "$root/entrypoint"
tar -C "$root" -c . | docker import -c 'ENTRYPOINT ["/entrypoint"]' -c 'EXPOSE 5432' - "$image" >/dev/null
echo "$image is made"
