#!/bin/bash
# Makes the cluster at the first start, with the user, the password and the database that the environment names.
set -euo pipefail
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  : "${POSTGRES_PASSWORD:?the first start needs POSTGRES_PASSWORD}"
  initdb --username="$user" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --auth-local=peer --auth-host=scram-sha-256 \
    --encoding=UTF8 --no-locale
  printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
  # Only this machine's own user may come in by the socket, and only while the database is made.
  sed -i 's/^local .*peer$/local all all trust/' "$PGDATA/pg_hba.conf"
  pg_ctl --wait --options="-c listen_addresses=''" start
  if [ "$database" != postgres ]; then createdb --username="$user" "$database"; fi
  pg_ctl --wait --mode=fast stop
fi
exec postgres -c listen_addresses='*' "$@"
