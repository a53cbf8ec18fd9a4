#!/usr/bin/env bash
# Embeddings of any recordings by an array of SLURM jobs. An example: set what your cluster asks for.
#
#   sbatch [--array 1-N] recipes/embed/slurm.sh --audio DIR|manifest.csv --store DIR [--encoder NAME] [--checkpoint FILE] [-- OPTIONS of wheeltapper embed]
#
# Submit it from the top of the checkout, set up by tools/setup.sh, or name that in WHEELTAPPER_ROOT. All machines must see
# it, the recordings and the store. Each task embeds its share of the recordings, on one GPU where it has one; the task that
# ends last writes embeddings.npy and index.csv. Tasks that were cut off start again, or are started again by the same
# command: nothing is embedded twice, and of a folder that has grown only what is new. --array 1-1 embeds all that is left.
# On machines without GPUs: sbatch --gpus-per-node 0.
#SBATCH --job-name=wheeltapper-embed
#SBATCH --array=1-8
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=4:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=wheeltapper-embed-%A-%a.log
#SBATCH --signal=B:USR1@120
set -euo pipefail
ROOT="${WHEELTAPPER_ROOT:-${SLURM_SUBMIT_DIR:?start it by sbatch}}" # SLURM runs a copy of this script

audio=                # folder of recordings, or a manifest.csv
store=exp/embeddings  # folder of the result
encoder=default       # as wheeltapper embed --help lists them
checkpoint=           # weights of the encoder
# shellcheck disable=SC2034 # read by parse_options.sh
OPTIONS_POSITIONAL=keep # what follows -- goes to wheeltapper embed

# shellcheck source=tools/parse_options.sh
. "$ROOT/tools/parse_options.sh"

# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"

if [ -z "$audio" ]; then
    echo "slurm.sh: --audio: expected a folder or manifest.csv, found nothing" >&2
    exit 2
fi
device=cpu
if [ "${SLURM_GPUS_ON_NODE:-0}" -gt 0 ]; then device=cuda; fi

# Two minutes before the time is up.
trap 'echo "time is up: queued again"; scontrol requeue "$SLURM_JOB_ID"' USR1
srun ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
    wheeltapper embed --audio "$audio" --store "$store" --share slurm --encoder "$encoder" \
    ${checkpoint:+--checkpoint "$checkpoint"} --device "$device" "$@" &
wait $!
