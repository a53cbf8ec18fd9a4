#!/usr/bin/env bash
# AST and a CNN on machine faults (MIMII paper): frozen with the local outlier factor, fine-tuned on normal and anomalous
# recordings, beside MIMII's autoencoder; AUC by machine, mean and spread over seeds.
#
#   recipes/mimii_ast_cnn/run.sh --raw DIR [--seeds "1 2 3"] [--exp DIR]                  MIMII as unpacked from its zips
#   recipes/mimii_ast_cnn/run.sh --data CSV --conf FILE [--seeds "1 2 3"] [--exp DIR]     any labelled recordings
#
# Stages: 0 prepare MIMII, 1 the study once for each seed, 2 one table of all seeds, and the paper's. A run that was stopped goes on where
# it was.
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)"

stage=0          # first stage
stop_stage=2     # last stage
raw=             # folder with <ratio>_dB_<machine>/, what MIMII's zips hold
data=            # instead: manifest.csv of wheeltapper prepare, or a table as wheeltapper emulate reads it
seeds="1 2 3"    # of splits, heads and autoencoders; one study for each
conf="$ROOT/recipes/mimii_ast_cnn/conf/default.yaml"
exp=exp/mimii_ast_cnn
store=           # spectrograms and frozen embeddings, which all seeds share (EXP/store)
set=()           # settings over the configuration's, key.key=value

# shellcheck source=tools/parse_options.sh
. "$ROOT/tools/parse_options.sh"
if [ -z "$raw" ] && [ -z "$data" ] && [ "$stage" -le 1 ]; then
  echo "run.sh: expected --raw DIR or --data CSV (--help)" >&2
  exit 2
fi

"$ROOT/tools/setup.sh"
# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"

if [ -n "$raw" ] && [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  wheeltapper prepare "$raw" --corpus mimii --view own --out "$exp/data"
fi

read -ra all_seeds <<<"$seeds"
places=()
for seed in "${all_seeds[@]}"; do
  place="$exp/seed$seed"
  places+=("$place")
  if [ "$stage" -le 1 ] && [ "$stop_stage" -ge 1 ]; then
    wheeltapper study --exp "$place" --conf "$conf" --data "${data:-$exp/data/manifest.csv}" \
      --store "${store:-$exp/store}" --set "seed=$seed" ${set[@]+"${set[@]/#/--set=}"}
  fi
done
if [ "$stop_stage" -ge 2 ]; then
  wheeltapper study --combine "${places[@]}" --out "$exp"
  cat "$exp/table.md"
  wheeltapper leaderboard mimii --seeds ours "${places[@]/%//results.json}" --out "$exp/leaderboard.html"
fi
