#!/usr/bin/env bash
# Contribution of each step of the noise-aware system (front ends, statistics, scorers, encoder; then other conditions), on
# recordings of your own, mixed with noise as a near and a far microphone would record them (wheeltapper emulate).
#
#   recipes/dcase2026/noise_study.sh --recordings TABLE.csv --noise DIR [--seeds "7 8 9"] [--exp DIR]
#
# TABLE.csv has the columns that wheeltapper emulate reads (recipes/propeller/local/make_table.py writes one). Stages: 0 mix,
# 1 ablation, 2 noise-aware system, 3 conditions, 4 tables. A killed run resumes.
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)"

stage=0        # first stage
stop_stage=4   # last stage
recordings=    # table of the machine recordings
noise=         # folder of noise recordings
noise_group='(\d-\d+)-'  # regular expression for the source recording in a noise file's name; the default is for ESC-50
seeds="7 8 9"  # one mixture per seed
condition_seeds="7"  # seeds of the mixtures for the conditions
exp=exp/noise_study
set=()         # key.key=value, overrides a setting of the configurations

# shellcheck source=tools/parse_options.sh
. "$ROOT/tools/parse_options.sh"
if [ -z "$recordings" ] || [ -z "$noise" ]; then
  echo "noise_study.sh: expected --recordings TABLE.csv and --noise DIR (--help)" >&2
  exit 2
fi

"$ROOT/tools/setup.sh"
# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"

conf=$ROOT/recipes/dcase2026/conf
tables=$exp/tables
spectra=low=1,quarter=1,magnitude_low=1,magnitude_quarter=1
read -ra all_seeds <<<"$seeds"
read -ra few_seeds <<<"$condition_seeds"
run_stage() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }

# mix PLACE SEED [OPTIONS]: recordings in PLACE/recordings, the machine without noise in PLACE/references/clean and the
# near channel alone in PLACE/references/near.
mix() {
  wheeltapper emulate "$recordings" "$noise" "$1/recordings" --seed "$2" --noise-group "$noise_group" \
    --references "$1/references" "${@:3}"
}

# try NAME CONF SEED DATA LAST: a run to its last stage in $exp/NAME/seedSEED.
try() {
  wheeltapper run --exp "$exp/$1/seed$3" --conf "$conf/$2.yaml" --data "$4" --set "seed=$3" \
    ${set[@]+"${set[@]/#/--set=}"} --stop-stage "$5"
}

# seeds_of NAME SEEDS...: folders of its runs.
seeds_of() { printf -- "$exp/$1/seed%s\n" "${@:2}"; }

# branch_table NAME [OPTIONS]: the table of the runs in $folders, as $tables/NAME.md and .csv.
branch_table() {
  python "$ROOT/recipes/dcase2026/local/branch_table.py" "${folders[@]}" "${@:2}" --csv "$tables/$1.csv" >"$tables/$1.md"
}

conditions=(snr-20 snr-15 snr-10 snr-5 snr+0 snr+5 snr+10 far_near_machine reverberant one_source no_far clean)
options_of() {
  case $1 in
    snr*) echo "--snr ${1#snr} ${1#snr}" ;;
    far_near_machine) echo "--snr -20 -12 --far-metres 0.5 1.0" ;;
    reverberant) echo "--snr -20 -12 --rt60 0.8" ;;
    one_source) echo "--snr -20 -12 --sources 1" ;;
  esac
}

if run_stage 0; then
  for seed in "${all_seeds[@]}"; do mix "$exp/mixed/seed$seed" "$seed" --snr -20 -12; done
fi
if run_stage 1; then
  for name in front_ends statistics encoder; do
    for seed in "${all_seeds[@]}"; do try "$name" "ablation/$name" "$seed" "$exp/mixed/seed$seed/recordings" 4; done
  done
fi
if run_stage 2; then
  for seed in "${all_seeds[@]}"; do try noise_aware noise_aware_spectrum "$seed" "$exp/mixed/seed$seed/recordings" 7; done
fi
if run_stage 3; then
  for seed in "${few_seeds[@]}"; do
    for name in "${conditions[@]}"; do
      place=$exp/mixed/$name/seed$seed data=$exp/mixed/$name/seed$seed/recordings
      case $name in
        no_far) data=$exp/mixed/seed$seed/references/near ;;
        clean) data=$exp/mixed/seed$seed/references/clean ;;
        *)
          read -ra options <<<"$(options_of "$name")"
          mix "$place" "$seed" "${options[@]}"
          ;;
      esac
      try "conditions/$name" ablation/conditions "$seed" "$data" 4
    done
  done
fi
if run_stage 4; then
  mkdir -p "$tables"
  for name in front_ends statistics encoder; do
    mapfile -t folders < <(seeds_of "$name" "${all_seeds[@]}")
    branch_table "$name"
  done
  mapfile -t folders < <(seeds_of noise_aware "${all_seeds[@]}")
  branch_table noise_aware --fuse low=1,quarter=1 "$spectra"
  for name in "${conditions[@]}"; do
    mapfile -t folders < <(seeds_of "conditions/$name" "${few_seeds[@]}")
    branch_table "$name" --fuse low=1,quarter=1 "$spectra"
  done
  tail -n +1 "$tables"/*.md
fi
