#!/usr/bin/env bash
# launch/again.sh COMMAND...: runs COMMAND, and again as long as it ends with status 75.
#
# genseg.main ends with 75 when it was told to end or lost another process of its job: the same command then goes on from
# the newest checkpoint. Any other status is final and becomes this script's own. Told to end itself (SIGTERM, SIGINT),
# it tells the command, waits for its last save, and does not start it again.
#
# AGAIN_SECONDS: pause before the next start (default 10).
set -u

[ $# -gt 0 ] || { echo "usage: $0 COMMAND..." >&2; exit 2; }

child='' told=''
trap 'told=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT

while :; do
  "$@" &
  child=$!
  status=0
  wait "$child" || status=$?
  while kill -0 "$child" 2>/dev/null; do # the signal ended `wait`, not the command
    status=0
    wait "$child" || status=$?
  done
  if [ "$status" -ne 75 ] || [ -n "$told" ]; then
    exit "$status"
  fi
  echo "$0: ended with 75, starting again" >&2
  sleep "${AGAIN_SECONDS:-10}"
done
