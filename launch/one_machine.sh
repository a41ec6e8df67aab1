#!/usr/bin/env bash
# One machine with any number of GPUs (or TPU chips): one process drives them all.
#
#   launch/one_machine.sh [--dry-run] [--config.key=value ...]
#
# Started again when it is told to end and comes back, see launch/again.sh.
set -euo pipefail

CONFIG=${CONFIG:-configs/pretrain.py:convnext_tiny,channels=4,objective=csp}
WORKDIR=${WORKDIR:-runs/csp4}
DATA=${DATA:-$HOME/data}             # holds the prepared data set, see docs/pretraining-data.md
WORKERS=${WORKERS:-0}                # decoding processes; with more than about four cores, one a core
PYTHON=${PYTHON:-.venv/bin/python}
GPUS=${GPUS:-}                       # such as 0,1,2,3; empty = all

cd "$(dirname "$0")/.."

run='env'
if [ "${1:-}" = --dry-run ]; then
  run='echo'
  shift
fi
[ -z "$GPUS" ] || export CUDA_VISIBLE_DEVICES="$GPUS"
"$run" launch/again.sh "$PYTHON" -m genseg.main --config="$CONFIG" --workdir="$WORKDIR" \
  --config.data.data_dir="$DATA" --config.data.workers="$WORKERS" "$@"
