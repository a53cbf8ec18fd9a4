#!/usr/bin/env bash
# The challenge of 2026 (run.sh beside this file) on one or several machines with GPUs, as a SLURM job. An example: set what
# your cluster asks for.
#
#   sbatch [--nodes N] [--gpus-per-node G] recipes/dcase2026/slurm.sh [--data DIR] [--candidates "CONF ..."] [--exp DIR] ...
#
# It takes the options of run.sh. Submit it from the top of the checkout, set up by tools/setup.sh, or name that in
# WHEELTAPPER_ROOT. All machines must see it, the experiment folder, and the recordings and checkpoints, which a cluster
# without internet needs beforehand (wheeltapper download, download-checkpoint). Adaptation and embedding run in one process
# on each GPU, all else in the first one; loop.batch_size must be a multiple of their number. On machines without GPUs
# (sbatch --gpus-per-node 0) WHEELTAPPER_PROCESSES work on each, 1 if it is not set. The job may be cut off at any time, and
# goes on as recipes/pretrain/slurm.sh does.
#SBATCH --job-name=wheeltapper-dcase2026
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=wheeltapper-dcase2026-%j.log
#SBATCH --signal=B:USR1@120
set -euo pipefail
ROOT="${WHEELTAPPER_ROOT:-${SLURM_SUBMIT_DIR:?start it by sbatch}}" # SLURM runs a copy of this script

# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"
processes="${WHEELTAPPER_PROCESSES:-0}"
# shellcheck source=tools/slurm.sh
. "$ROOT/tools/slurm.sh"

requeue_when_time_is_up
"$ROOT/recipes/dcase2026/run.sh" --launch "${launch[*]}" "$@" --set "device=$device" &
wait $!
