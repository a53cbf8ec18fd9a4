#!/usr/bin/env bash
# Every kind of machine: propellers, a fan, bottles and motors, as recorded and in noise; one table set x system.
#
#   recipes/every_machine/run.sh --data DIR [--seeds "1 2 3"] [--conf FILE]... [--noisy-conf FILE]... [--exp DIR]
#
# DIR holds the recordings (README.md). Stages: 0 sets, 1 references, 2 systems, 3 table. A stopped run resumes.
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)"

stage=0          # first stage
stop_stage=3     # last stage
data=            # folder of the recordings; only stage 0 reads it
seeds="1 2 3"    # of splits and mixtures, and of the systems
conf=()          # configuration for the clean sets (default: recipes/dcase2026/conf/default.yaml)
noisy_conf=()    # configuration for the sets in noise (default: the same and noise_aware.yaml)
sets=            # folder of the sets (default: EXP/sets)
exp=exp/every_machine
set=()           # key.key=value, overrides a setting of the configurations

# shellcheck source=tools/parse_options.sh
. "$ROOT/tools/parse_options.sh"
if [ -z "$data" ] && [ "$stage" -le 0 ]; then
  echo "run.sh: expected --data DIR (--help)" >&2
  exit 2
fi
sets="${sets:-$exp/sets}"
main="$ROOT/recipes/dcase2026/conf"
if [ ${#conf[@]} -eq 0 ]; then conf=("$main/default.yaml"); fi
if [ ${#noisy_conf[@]} -eq 0 ]; then noisy_conf=("$main/default.yaml" "$main/noise_aware.yaml"); fi

"$ROOT/tools/setup.sh"
# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"

read -ra all_seeds <<<"$seeds"
references=()
runs=()
for seed in "${all_seeds[@]}"; do
  if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
    python "$ROOT/recipes/every_machine/local/make_sets.py" --data "$data" --out "$sets/seed$seed" --seed "$seed"
  fi
  for condition in clean noisy; do
    place="$exp/references/seed$seed.$condition"
    references+=("$place")
    # references.json is written last; one that is older than the sets is of others.
    if [ "$stage" -le 1 ] && [ "$stop_stage" -ge 1 ] &&
      ! [ "$place/references.json" -nt "$sets/seed$seed/$condition/truth.csv" ]; then
      systems=(--system logmel_knn --system logmel_mahalanobis)
      if [ "$condition" = noisy ]; then
        systems+=(--system logmel_knn_subtracted --system logmel_mahalanobis_subtracted)
      fi
      wheeltapper prepare "$sets/seed$seed/$condition" --out "$place/manifest.csv"
      wheeltapper reference --manifest "$place/manifest.csv" "${systems[@]}" --out "$place"
    fi
    files=("${conf[@]}")
    if [ "$condition" = noisy ]; then files=("${noisy_conf[@]}"); fi
    for file in "${files[@]}"; do
      name="$(basename "$file" .yaml)"
      runs+=("$name=$exp/runs/$name/seed$seed.$condition")
      if [ "$stage" -le 2 ] && [ "$stop_stage" -ge 2 ]; then
        "$ROOT/run.sh" --data "$sets/seed$seed/$condition/clips.csv" --conf "$file" --exp "$exp/runs/$name/seed$seed.$condition" \
          --set "seed=$seed" ${set[@]+"${set[@]/#/--set=}"} --stop-stage 6
      fi
    done
  done
done
if [ "$stop_stage" -ge 3 ]; then
  python "$ROOT/recipes/every_machine/local/tabulate.py" "${runs[@]}" --references "${references[@]}" --out "$exp"
fi
