#!/usr/bin/env bash
# Pre-training on several machines, as a SLURM job. An example: set what your cluster asks for.
#
#   sbatch [--nodes N] [--gpus-per-node G] recipes/pretrain/slurm.sh [--exp DIR] [--conf FILE] [--source PATH[=WEIGHT]]... [--set KEY=VALUE]...
#
# Submit it from the top of the checkout, set up by tools/setup.sh, or name that in WHEELTAPPER_ROOT. All machines must see
# it, the experiment folder and the recordings. One process works on each GPU; pretrain.loop.batch_size is the batch of all
# of them together. On machines without GPUs (sbatch --gpus-per-node 0) --processes work on each. The job may be cut off at
# any time: it starts again by itself where its machine failed, it was pre-empted or its time is up, and by the same sbatch
# command otherwise. It always goes on from the last saved step.
#SBATCH --job-name=wheeltapper-pretrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=wheeltapper-pretrain-%j.log
#SBATCH --signal=B:USR1@120
set -euo pipefail
ROOT="${WHEELTAPPER_ROOT:-${SLURM_SUBMIT_DIR:?start it by sbatch}}" # SLURM runs a copy of this script

exp=exp/pretrain      # all results go here
conf="$ROOT/recipes/pretrain/conf/fisher.yaml"
source=()             # manifest.csv or folder of shards to learn from, PATH or PATH=WEIGHT
processes=0           # on each machine (0: one on each GPU; one where there is none)
set=()                # settings over the configuration's, key.key=value

# shellcheck source=tools/parse_options.sh
. "$ROOT/tools/parse_options.sh"

# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"
# shellcheck source=tools/slurm.sh
. "$ROOT/tools/slurm.sh"

# The same by torchrun itself, with more words when a process dies:
#   srun torchrun --nnodes ... --nproc-per-node ... --rdzv-backend c10d --rdzv-endpoint ... -m system.bin pretrain ...
requeue_when_time_is_up
"${launch[@]}" pretrain --exp "$exp" --conf "$conf" --set "device=$device" ${set[@]+"${set[@]/#/--set=}"} \
    ${source[@]+"${source[@]/#/--source=}"} &
wait $!
