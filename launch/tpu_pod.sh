#!/usr/bin/env bash
# A Cloud TPU slice of any size by gcloud.
#
#   launch/tpu_pod.sh [--dry-run] create     ask for the slice (a queued resource)
#   launch/tpu_pod.sh [--dry-run] install    this repository and its packages, on all hosts
#   launch/tpu_pod.sh [--dry-run] data       the prepared data set from the bucket to all hosts
#   launch/tpu_pod.sh [--dry-run] run [--config.key=value ...]
#   launch/tpu_pod.sh [--dry-run] logs       of host 0, as they come
#   launch/tpu_pod.sh [--dry-run] fetch      metrics and pictures to WORKDIR here
#   launch/tpu_pod.sh [--dry-run] status     of the request: WAITING_FOR_RESOURCES, ACTIVE, SUSPENDED, ...
#   launch/tpu_pod.sh [--dry-run] stop       save and end on all hosts
#   launch/tpu_pod.sh [--dry-run] delete     the slice and the request; charges end here
#   launch/tpu_pod.sh [--dry-run] keep [--config.key=value ...]
#                                            all of it: create, install, data, run; after a preemption again; fetch and
#                                            delete at the end. Leave it running in tmux, or on a small VM.
#
# Checkpoints go to the bucket, so that a new slice goes on where the old one was taken away.
set -euo pipefail

PROJECT=${PROJECT:-my-project}
ZONE=${ZONE:-us-west4-a}
NAME=${NAME:-genseg}
ACCELERATOR=${ACCELERATOR:-v5litepod-32}       # 32 v5e chips; v5litepod-256 is a whole pod
VERSION=${VERSION:-v2-alpha-tpuv5-lite}        # of the TPU software, see cloud.google.com/tpu/docs/runtimes
SPOT=${SPOT:-yes}                              # yes: cheaper, may be taken away; no: on demand
REPOSITORY=${REPOSITORY:-https://github.com/my-account/genseg.git}
REVISION=${REVISION:-main}
BUCKET=${BUCKET:-my-bucket}                    # in the same region as ZONE
CONFIG=${CONFIG:-configs/pretrain.py:convnext_tiny,channels=4,objective=csp}
WORKERS=${WORKERS:-32}                         # decoding processes of each host; a v5e host has 112 virtual CPUs
WORKDIR=${WORKDIR:-runs/$NAME}                 # metrics and pictures, on host 0 and, after fetch, here
POLL=${POLL:-60}                               # seconds between looks of `keep`

DRY=''
if [ "${1:-}" = --dry-run ]; then
  DRY=yes
  shift
fi

do_or_show() {
  if [ -n "$DRY" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

here=(--project="$PROJECT" --zone="$ZONE")

on() { # HOSTS COMMAND: by ssh
  do_or_show gcloud compute tpus tpu-vm ssh "$NAME" "${here[@]}" --worker="$1" --command="$2"
}

create() {
  local spot=()
  [ "$SPOT" != yes ] || spot=(--spot)
  do_or_show gcloud compute tpus queued-resources create "$NAME" "${here[@]}" --node-id="$NAME" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$VERSION" ${spot[@]+"${spot[@]}"}
}

# uv brings its own Python: the TPU images' is older than the 3.11 that genseg needs.
install() {
  on all "set -e; python3 -m pip install --quiet --user uv
    rm -rf genseg; git clone --quiet --branch $(printf %q "$REVISION") $(printf %q "$REPOSITORY") genseg; cd genseg
    python3 -m uv venv --quiet --python 3.12; python3 -m uv pip install --quiet -c constraints.txt -e '.[tpu]'"
}

# To the memory file system: reads are random, and a boot disk is slow.
data() {
  on all "mkdir -p /dev/shm/genseg && gcloud storage rsync --recursive $(printf %q "gs://$BUCKET/genseg-data") /dev/shm/genseg"
}

run() {
  local command
  command=$(printf '%q ' launch/again.sh .venv/bin/python -m genseg.main --config="$CONFIG" --workdir="$WORKDIR" \
    --config.data.data_dir=/dev/shm/genseg --config.data.workers="$WORKERS" --config.checkpoint.dir="gs://$BUCKET/$WORKDIR" "$@")
  command="cd genseg; $command & echo \$! > ~/pid; wait \$!; echo \$? > ~/status"
  on all "rm -f status; nohup setsid bash -c $(printf %q "$command") > log 2>&1 < /dev/null & sleep 1"
}

logs() { on 0 "tail -n +1 -F log"; }

fetch() {
  do_or_show mkdir -p "$WORKDIR"
  do_or_show gcloud compute tpus tpu-vm scp --recurse "${here[@]}" --worker=0 "$NAME:genseg/$WORKDIR/." "$WORKDIR"
}

status() {
  do_or_show gcloud compute tpus queued-resources describe "$NAME" "${here[@]}" --format='value(state.state)'
}

stop() { on all "kill -TERM \$(cat pid)"; }

delete() { do_or_show gcloud compute tpus queued-resources delete "$NAME" "${here[@]}" --force --quiet; }

keep() {
  if [ -n "$DRY" ]; then
    create; status; install; data; run "$@"; on 0 "cat status"; fetch; delete
    return
  fi
  local state result started=''
  while :; do
    state=$(status 2>/dev/null) || state=absent
    case "$state" in
      absent) create || true; started='' ;;
      ACTIVE)
        if [ -z "$started" ]; then # a pod that was taken away in the meantime fails here; the next look says so
          if install && data && run "$@"; then started=yes; fi
        elif result=$(on 0 "cat status" 2>/dev/null); then
          fetch
          delete
          return "$result"
        else
          fetch || true
        fi ;;
      SUSPENDED | SUSPENDING | FAILED) delete || true; started='' ;;
    esac
    sleep "$POLL"
  done
}

action=${1:-}
case "$action" in
  create | install | data | run | logs | fetch | status | stop | delete | keep) shift; "$action" "$@" ;;
  *) sed -n '4,15s/^# *//p' "$0" >&2; exit 2 ;;
esac
