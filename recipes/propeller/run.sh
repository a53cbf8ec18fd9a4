#!/usr/bin/env bash
# Real sound: drone propellers (UAV-Propeller-Anomaly-Audio-Dataset) in ESC-50 noise, as the two microphones of the 2026
# challenge would record them. One set per seed; the main recipe and the reference systems run on each.
#
#   recipes/propeller/run.sh --recordings DIR --noise DIR [--seeds "1 2 3"] [--conf FILE] [--exp DIR]
#
# The folder of --recordings holds 10 s clips and their manifest.csv. Stages: 0 mix, 1 references, 2 main recipe, 3 table.
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)"

stage=0          # first stage
stop_stage=3     # last stage
recordings=      # folder with the propeller recordings
noise=           # folder with noise recordings
seeds="1 2 3"    # one set per seed
conf="$ROOT/recipes/dcase2026/conf/default.yaml"
exp=exp/propeller
set=()           # key.key=value, overrides a setting of the configuration

# shellcheck source=tools/parse_options.sh
. "$ROOT/tools/parse_options.sh"
if [ -z "$recordings" ] || [ -z "$noise" ]; then
  echo "run.sh: expected --recordings DIR and --noise DIR (--help)" >&2
  exit 2
fi

"$ROOT/tools/setup.sh"
# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"

read -ra all_seeds <<<"$seeds"
for seed in "${all_seeds[@]}"; do
  place="$exp/seed$seed"
  if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
    mkdir -p "$exp"
    python "$ROOT/recipes/propeller/local/make_table.py" "$recordings/manifest.csv" "$exp/table.csv"
    # ESC-50 names are fold-recording-take: takes of one recording stay on one side of the split.
    wheeltapper emulate "$exp/table.csv" "$noise" "$place/recordings" --seed "$seed" --snr -20 -12 \
      --noise-group '(\d-\d+)-'
    wheeltapper prepare "$place/recordings" --out "$place/manifest.csv"
  fi
  if [ "$stage" -le 1 ] && [ "$stop_stage" -ge 1 ]; then
    wheeltapper reference --manifest "$place/manifest.csv" --system all --out "$place/references"
  fi
  if [ "$stage" -le 2 ] && [ "$stop_stage" -ge 2 ]; then
    "$ROOT/run.sh" --data "$place/recordings" --conf "$conf" --exp "$place/system" --set "seed=$seed" \
      ${set[@]+"${set[@]/#/--set=}"}
  fi
done
if [ "$stop_stage" -ge 3 ]; then
  python "$ROOT/recipes/propeller/local/tabulate.py" "$exp" "${all_seeds[@]}"
fi
