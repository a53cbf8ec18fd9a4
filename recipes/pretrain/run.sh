#!/usr/bin/env bash
# Pre-training of a sub-band encoder: from unlabelled recordings to weights with a model card, compared with random weights.
#
#   recipes/pretrain/run.sh [--conf FILE] [--exp DIR] [--esc50 DIR] [--drones DIR] [--extra "MANIFEST=WEIGHT ..."]
#
# Stages: 0 simulate, 1 manifests, 2 de-duplicate, 3 shards, 4 pretrain, 5 weights and model card, 6 probe.
# Complete stages are skipped and a killed run resumes. Without recordings it trains on simulated sound only. Of ESC-50 it
# trains on the CC BY part, of the drone recordings on the CC0 part, unless --free-only false; the probe uses all of ESC-50.
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)"

stage=0           # first stage
stop_stage=6      # last stage
conf="$ROOT/recipes/pretrain/conf/small.yaml"
exp=exp/pretrain
clips=8000        # simulated recordings of 5 s
esc50=            # folder of ESC-50 with meta.csv or meta/esc50.csv
drones=           # folder of drone recordings with manifest.csv (columns file, label, src)
free_only=true    # train on redistributable recordings only
extra=            # additional training manifests, MANIFEST=WEIGHT each; the others have weights 0.5, 0.3 and 0.2
deduplicate=false # remove near-identical stationary recordings
processes=1       # number of processes on this machine
cwru=             # folder of CWRU in its publisher's layout, for the probe
propeller=        # manifests of emulated sets, for the probe
seeds="0 1 2"     # seeds of the random weights that the probe compares with
set=()            # key.key=value, overrides a setting of the configuration

# shellcheck source=tools/parse_options.sh
. "$ROOT/tools/parse_options.sh"

"$ROOT/tools/setup.sh"
# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"

run_stage() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }
manifests=$exp/manifests

if run_stage 0; then
  wheeltapper synthesize "$exp/simulated" --kind procedural --clips "$clips"
fi

if run_stage 1; then
  mkdir -p "$manifests"
  if [ -n "$esc50" ]; then
    table=$esc50/meta.csv file=file root=$esc50
    if [ ! -f "$table" ]; then
      table=$esc50/meta/esc50.csv file=filename root=$esc50/audio
    fi
    classes=(--file-column "$file" --root "$root" --class-column category --fold-column fold --other-columns ignore)
    wheeltapper prepare "$table" --out "$manifests/esc50.csv" "${classes[@]}"
    learned=()
    if [ "$free_only" = true ]; then learned=(--where 'esc10~^(1|True)$'); fi
    wheeltapper prepare "$table" --out "$manifests/learn_esc50.csv" "${classes[@]}" "${learned[@]}"
  fi
  if [ -n "$drones" ]; then
    learned=()
    if [ "$free_only" = true ]; then learned=(--where 'src=DroneDetectionThesis/Drone-detection-dataset'); fi
    classes=(--class-column label --other-columns ignore)
    wheeltapper prepare "$drones/manifest.csv" --out "$manifests/learn_drones.csv" "${classes[@]}" "${learned[@]}"
  fi
  if [ -n "$cwru" ]; then
    wheeltapper prepare "$cwru" --corpus cwru --out "$manifests/cwru"
  fi
fi

# What is learned from, as MANIFEST=WEIGHT.
sources=("$exp/simulated/manifest.csv=0.5")
if [ -n "$esc50" ]; then sources+=("$manifests/learn_esc50.csv=0.3"); fi
if [ -n "$drones" ]; then sources+=("$manifests/learn_drones.csv=0.2"); fi
read -ra more <<<"$extra"
sources+=("${more[@]}")

prepared=()
for source in "${sources[@]}"; do
  manifest=${source%=*} weight=
  if [[ $source == *=* ]]; then weight=${source##*=}; fi
  name=$(basename "$manifest" .csv)
  if [ "$name" = manifest ]; then name=$(basename "$(dirname "$manifest")"); fi
  if [ "$deduplicate" = true ]; then
    if run_stage 2; then
      wheeltapper deduplicate "$manifest" --out "$manifests/distinct_$name.csv"
    fi
    manifest=$manifests/distinct_$name.csv
  fi
  if run_stage 3; then
    wheeltapper shard "$manifest" --out "$exp/shards/$name"
  fi
  prepared+=(--source "$exp/shards/$name${weight:+=$weight}")
done

if run_stage 4; then
  pretrain=(wheeltapper pretrain --exp "$exp" --conf "$conf" ${set[@]+"${set[@]/#/--set=}"} "${prepared[@]}")
  if [ "$processes" -gt 1 ]; then
    wheeltapper launch --processes "$processes" -- "${pretrain[@]:1}"
  else
    "${pretrain[@]}"
  fi
fi

if run_stage 5; then
  python "$ROOT/recipes/pretrain/local/model_card.py" "$exp" --out "$exp/weights"
fi

if run_stage 6; then
  sets=()
  if [ -n "$esc50" ]; then sets+=(--data "esc50=$manifests/esc50.csv"); fi
  if [ -n "$cwru" ]; then sets+=(--data "cwru=$manifests/cwru/manifest.csv"); fi
  read -ra mixtures <<<"$propeller"
  for number in "${!mixtures[@]}"; do sets+=(--data "propeller$((number + 1))=${mixtures[number]}"); done
  if [ "${#sets[@]}" -eq 0 ]; then
    echo "run.sh: nothing to judge the weights on (--esc50, --cwru, --propeller)"
    exit 0
  fi
  read -ra random <<<"$seeds"
  wheeltapper probe "${sets[@]}" --exp "$exp" --against random --seeds "${random[@]}" --baselines --json "$exp/probe.json"
fi
