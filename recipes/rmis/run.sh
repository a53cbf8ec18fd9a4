#!/usr/bin/env bash
# RMIS (FISHER paper): frozen encoders with nearest neighbours on six years of DCASE Task 2 and thirteen sets of machine
# faults, and a table of our rows beside the published ones. Missing data sets are skipped.
#
#   recipes/rmis/run.sh --raw DIR [--encoders "ENCODER[@CHECKPOINT] ..."] [--data DIR] [--exp DIR]
#
# Stages: 0 download, 1 prepare, 2 embed and measure, 3 table. Each recording is embedded once for an encoder; a run
# that was stopped goes on where it was.
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)"

stage=1           # first stage; 0 fetches what can be fetched, some hundred GB
stop_stage=3      # last stage
benchmark=rmis    # rmis or siren
raw=data/raw      # holds the publishers' files, <corpus>/ and dcase<year>/, truth in dcase<year>/truth.csv
data=             # prepared data sets (data/<benchmark>)
exp=              # results (exp/<benchmark>)
store=exp/embeddings # embeddings of all encoders
encoders="default default@random log-mel-mean-std log-spectrum-mean-std" # rows: encoder, @ its weights or random
sets=             # data sets (all)
protocol=as-coded # or clean
sealed=false      # never have parts of one recording on both sides
processes=1       # that embed
device=auto       # cuda, mps or cpu; auto takes the first that works
precision=fp32    # or bf16, auto

# shellcheck source=tools/parse_options.sh
. "$ROOT/tools/parse_options.sh"

case $benchmark in rmis | siren) ;; *)
  echo "run.sh: --benchmark: expected rmis or siren, found $benchmark" >&2 && exit 2 ;;
esac
data=${data:-data/$benchmark} exp=${exp:-exp/$benchmark}
read -ra names <<<"$sets"
chosen=(${sets:+--sets "${names[@]}"}) # none: all
read -ra rows <<<"$encoders"

"$ROOT/tools/setup.sh"
# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"

run_stage() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }

if run_stage 0; then
  wheeltapper download --suite "$benchmark" --out "$raw" ${chosen[@]+"${chosen[@]}"}
fi

if run_stage 1; then
  wheeltapper prepare "$raw" --suite "$benchmark" --out "$data" ${chosen[@]+"${chosen[@]}"}
fi

options=(--data "$data" --store "$store" --protocol "$protocol" --device "$device" --precision "$precision")
options+=(${chosen[@]+"${chosen[@]}"})
if [ "$sealed" = true ]; then options+=(--sealed); fi
start=(wheeltapper)
if [ "$processes" -gt 1 ]; then start=(wheeltapper launch --processes "$processes" --); fi

# The file name of a row's results.
file_of() { echo "$exp/$(tr -c 'A-Za-z0-9.\n-' _ <<<"$1")"; }

if run_stage 2; then
  mkdir -p "$exp"
  for row in "${rows[@]}"; do
    weights=() name=$row
    if [[ $row == *@* ]]; then
      weights=(--checkpoint "${row#*@}")
      name=${row%%@*}@$(basename "${row#*@}")
    fi
    encoder=(--encoder "${row%%@*}" "${weights[@]}" --name "$name")
    "${start[@]}" benchmark "$benchmark" "${encoder[@]}" "${options[@]}" --json "$(file_of "$row").json"
    if [ "$benchmark" = rmis ]; then
      wheeltapper benchmark rmis --multi-split "${encoder[@]}" "${options[@]}" --json "$(file_of "$row").multisplit.json"
    fi
  done
fi

if run_stage 3; then
  results=() curves=()
  for row in "${rows[@]}"; do
    results+=("$(file_of "$row").json")
    curves+=("$(file_of "$row").multisplit.json")
  done
  wheeltapper leaderboard "$benchmark" "${results[@]}" --out "$exp/table.html"
  if [ "$benchmark" = rmis ]; then
    wheeltapper leaderboard rmis-multisplit "${curves[@]}" --out "$exp/multisplit.html"
  fi
fi
