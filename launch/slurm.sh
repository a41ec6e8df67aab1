#!/usr/bin/env bash
# SLURM, GPUs, any number of nodes: one task a node, which drives all GPUs of its node.
#
#   sbatch --nodes=4 --gpus-per-node=8 launch/slurm.sh [--config.key=value ...]
#   launch/slurm.sh --dry-run [--config.key=value ...]      prints what would run
#
# The processes find each other through the variables that srun sets (genseg/partition.py). SLURM sends SIGTERM a while
# before the time limit; genseg saves and ends with 75, and the job puts itself back into the queue.
#SBATCH --job-name=genseg
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=genseg-%j.log
set -euo pipefail

CONFIG=${CONFIG:-configs/pretrain.py:convnext_tiny,channels=4,objective=csp}
WORKDIR=${WORKDIR:-runs/csp4}                  # on a file system that all nodes share
SOURCE=${SOURCE:-}                             # prepared data on a shared file system, copied to each node; "" = no copy
DATA=${DATA:-${TMPDIR:-/tmp}/genseg-data}      # where each node reads it
WORKERS=${WORKERS:-32}                         # decoding processes of each node, fewer than --cpus-per-task
PYTHON=${PYTHON:-.venv/bin/python}

run=''
if [ "${1:-}" = --dry-run ]; then
  run='echo'
  shift
fi

cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"

if [ -n "$SOURCE" ]; then
  $run srun --ntasks-per-node=1 mkdir -p "$DATA"
  $run srun --ntasks-per-node=1 rsync -a --copy-links "$SOURCE/" "$DATA/"
fi

status=0
$run srun --kill-on-bad-exit=1 "$PYTHON" -m genseg.main --config="$CONFIG" --workdir="$WORKDIR" \
  --config.data.data_dir="$DATA" --config.data.workers="$WORKERS" "$@" || status=$?
case "$status" in
  75) $run scontrol requeue "$SLURM_JOB_ID" ;;
  134 | 137) # aborted because process 0 died; killed: perhaps by what would kill the next start too
    [ "${SLURM_RESTART_COUNT:-0}" -ge 3 ] || $run scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit "$status"
