#!/usr/bin/env bash
# launch/again.sh COMMAND...: runs COMMAND, and again as long as it ends with status 75.
#
# genseg.main ends with 75 when it was told to end or lost another process of its job: the same command then goes on from
# the newest checkpoint. So it does after 134 and 137 (aborted because process 0 died; killed), but what did that may do
# it at every start: they are followed AGAIN_CRASHES times, and an hour of running clears the count. Any other status is
# final and becomes this script's own. Told to end itself (SIGTERM, SIGINT), it tells the command, waits for its last save,
# and does not start it again.
#
# AGAIN_SECONDS: pause before the next start (default 10). AGAIN_CRASHES: default 3.
set -u

[ $# -gt 0 ] || { echo "usage: $0 COMMAND..." >&2; exit 2; }

child='' told='' crashes=0
trap 'told=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT

while :; do
  began=$SECONDS
  "$@" &
  child=$!
  status=0
  wait "$child" || status=$?
  while kill -0 "$child" 2>/dev/null; do # the signal ended `wait`, not the command
    status=0
    wait "$child" || status=$?
  done
  [ $((SECONDS - began)) -lt 3600 ] || crashes=0
  case "$status" in
    75) ;;
    134 | 137)
      [ "$crashes" -lt "${AGAIN_CRASHES:-3}" ] || exit "$status"
      crashes=$((crashes + 1)) ;;
    *) exit "$status" ;;
  esac
  [ -z "$told" ] || exit "$status"
  echo "$0: ended with $status, starting again" >&2
  sleep "${AGAIN_SECONDS:-10}"
done
