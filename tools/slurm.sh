# shellcheck shell=bash
# What the SLURM jobs of the recipes have in common. To be sourced in a job after parse_options.sh and path.sh.
#
# Reads processes, the number on each machine (0: one on each GPU, or one). Sets launch, the words that start a command in
# several processes on all machines of the job, and device, cuda or cpu.
# shellcheck disable=SC2034,SC2154

gpus="${SLURM_GPUS_ON_NODE:-0}"
if [ "$gpus" -gt 0 ]; then device=cuda; else device=cpu; fi
if [ "$processes" -eq 0 ]; then processes=$((gpus > 0 ? gpus : 1)); fi

first="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
port=$((20000 + SLURM_JOB_ID % 20000))

# Where a process dies, srun ends those of the other machines too.
launch=(srun --kill-on-bad-exit=1 --ntasks-per-node=1)
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then launch+=(--cpus-per-task="$SLURM_CPUS_PER_TASK"); fi
launch+=(wheeltapper launch --machines "${SLURM_NNODES:-1}" --processes "$processes")
launch+=(--meet "$first:$port" --run-id "$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}")

# SLURM warns a job with #SBATCH --signal=B:USR1@120 two minutes before its time is up.
requeue_when_time_is_up() {
    trap 'echo "time is up: queued again"; scontrol requeue "$SLURM_JOB_ID"' USR1
}
