#!/usr/bin/env bash
# The EFB paper's system (evenly spaced filters, SimAM, EAT) on DCASE 2024 Task 2, and its first experiments.
#
#   recipes/dcase2024_simam_eat/run.sh [--data dcase2024|synthetic|DIR] [--conf FILE] [--exp DIR] [--seeds "0 1 2"]
#
# Stages: 0 the system, from data to package; 1 filter banks; 2 SimAM; 3 SimAM with a frozen network, with pictures;
# 4 domain normalisation; 5 table. SEED in --data is replaced by the seed, for recordings that differ by seed.
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)"

stage=0         # first stage
stop_stage=5    # last stage
data=dcase2024  # recordings, as for ./run.sh
conf="$ROOT/recipes/dcase2024_simam_eat/conf/default.yaml"
exp=exp/dcase2024_simam_eat
seeds=          # all experiments are run with each seed (default: "0")
set=()          # key.key=value, overrides a setting of the configuration

# shellcheck source=tools/parse_options.sh
. "$ROOT/tools/parse_options.sh"

"$ROOT/tools/setup.sh"
# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"

recipe=$ROOT/recipes/dcase2024_simam_eat
read -ra all_seeds <<<"${seeds:-0}"
base=$conf quote="'" # as the configurations of the experiments name it
if [ -f "$conf" ]; then base=$(realpath "$conf"); fi

run_stage() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }

# The metrics of each variant of an experiment, to <exp>/seed<seed>/results/<experiment>.<variant>.json. Variants that
# share a folder share what they have in common: stages whose settings are the same have nothing to do.
experiment() {
  local name=$1 shared=${2:-} file variant folder
  for file in "$recipe/conf/experiments/$name"/*.yaml; do
    variant=$(basename "$file" .yaml)
    folder=$place/$name/${shared:-$variant}
    mkdir -p "$place/results" "$place/conf"
    { echo "base: '${base//$quote/$quote$quote}'" && cat "$file"; } >"$place/conf/$name.$variant.yaml"
    wheeltapper run --exp "$folder" --conf "$place/conf/$name.$variant.yaml" --data "$recordings" \
      --set "seed=$seed" ${set[@]+"${set[@]/#/--set=}"} --stop-stage 6
    cp "$folder/metrics.json" "$place/results/$name.$variant.json"
  done
}

for seed in "${all_seeds[@]}"; do
  place=$exp/seed$seed
  recordings=${data//SEED/$seed}
  if run_stage 0; then
    wheeltapper run --exp "$place/system" --conf "$conf" --data "$recordings" --set "seed=$seed" \
      ${set[@]+"${set[@]/#/--set=}"}
    mkdir -p "$place/results" && cp "$place/system/metrics.json" "$place/results/system.json"
  fi
  if [ "$recordings" = synthetic ]; then recordings=$place/system/data; fi # simulated once
  if run_stage 1; then experiment filterbank; fi
  if run_stage 2; then experiment simam; fi
  if run_stage 3; then
    experiment simam_frozen
    python "$recipe/local/simam_pictures.py" "$place/simam_frozen/auto" "$place/simam.png"
  fi
  if run_stage 4; then experiment normalisation source_only; fi
done
if run_stage 5; then
  python "$recipe/local/results_table.py" "$exp" "${all_seeds[@]}" --out "$exp/table.md"
fi
