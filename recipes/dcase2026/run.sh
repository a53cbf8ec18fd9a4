#!/usr/bin/env bash
# DCASE 2026 Task 2 in the two stages of Wang and Liu 2026: candidate configurations are compared on the development
# machines; the best one is frozen, adapted to the evaluation machines, and scores their unlabelled clips.
#
#   recipes/dcase2026/run.sh [--data dcase2026|DIR|synthetic] [--candidates "CONF [CONF ...]"] [--exp DIR]
#
# Stages: 0 development runs, 1 select, 2 final run, 3 comply, 4 table. A killed run resumes.
#
# Needs with the default candidates: the weights of BEATs and AudioMAE (0.7 GB in data/checkpoints, by wheeltapper
# download-checkpoint beats-iter3 and audiomae-as2m), 25 GB of disk, and a GPU of 16 GB, or days (docs/challenge.md).
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)"

stage=0          # first stage
stop_stage=4     # last stage
data=dcase2026   # recordings of the challenge (downloaded), a folder, or simulated machines
size=default     # size of the simulated machines: default or tiny
candidates="dcase2026/beats_audiomae.yaml dcase2026/beats_audiomae_standardized.yaml"
system=1         # system whose score decides the selection
exp=exp/dcase2026 # folder for all results
recompute=8      # number of test clips that stage 3 embeds again, each separately
processes=1      # runs adapt and embed in so many processes, one for each GPU
launch=          # words that start a run in several processes, for several machines (slurm.sh)
set=()           # key.key=value, overrides a setting; the final run accepts only settings that change no score

# shellcheck source=tools/parse_options.sh
. "$ROOT/tools/parse_options.sh"

read -ra confs <<<"$candidates"
if [ ${#confs[@]} -eq 0 ]; then
  echo "run.sh: --candidates: expected one configuration or more, found none" >&2
  exit 2
fi

"$ROOT/tools/setup.sh"
# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"

run_stage() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }

if [ "$data" = synthetic ]; then
  data=$exp/recordings
  if [ "$stage" -eq 0 ]; then wheeltapper synthesize "$data" --size "$size"; fi
fi

if [ -z "$launch" ] && [ "$processes" -gt 1 ]; then launch="wheeltapper launch --processes $processes --"; fi
read -ra run <<<"${launch:-wheeltapper} run"

runs=()
for conf in "${confs[@]}"; do runs+=("$exp/development/$(basename "$conf" .yaml)"); done

if run_stage 0; then
  for number in "${!confs[@]}"; do
    "${run[@]}" --exp "${runs[$number]}" --conf "${confs[$number]}" --data "$data" \
      ${set[@]+"${set[@]/#/--set=}"} --set data.machines=development --stop-stage 6
  done
fi

if run_stage 1; then
  wheeltapper select --exp "${runs[@]}" --system "$system" --out "$exp/frozen.yaml"
fi

if run_stage 2; then
  "${run[@]}" --exp "$exp/final" --conf "$exp/frozen.yaml" --data "$data" \
    ${set[@]+"${set[@]/#/--set=}"} --set data.machines=evaluation --set "data.frozen=$exp/frozen.yaml" --stop-stage 7
fi

if run_stage 3; then
  wheeltapper comply --exp "$exp/final" --recompute "$recompute"
fi

if run_stage 4; then
  wheeltapper leaderboard dcase2026 "${runs[@]/%//metrics.json}" "$exp/final/metrics.json" --out "$exp/table.html"
  cat "$exp/table.md"
fi
