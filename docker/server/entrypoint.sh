#!/bin/sh
# The engine mounts guestd into containers from the host's disk: it has to be where the host sees it, in the data directory.
set -eu
guestd=$ATELIER_SERVER__DATA_DIR/guestd
if ! cmp -s /usr/lib/atelier/guestd "$guestd"; then
  # Renamed, not overwritten: containers that run keep the file they were started with.
  cp /usr/lib/atelier/guestd "$guestd.new"
  mv "$guestd.new" "$guestd"
fi
export ATELIER_SANDBOX__GUESTD="$guestd"
exec atelier "$@"
