#!/usr/bin/env bash
# AST and a CNN for machine faults (MIMII paper): frozen with the local outlier factor, and fine-tuned on normal and
# anomalous recordings, compared with MIMII's autoencoder; AUC per machine, mean and spread over seeds.
#
#   recipes/mimii_ast_cnn/run.sh --raw DIR [--seeds "1 2 3"] [--exp DIR]                  MIMII as unpacked from its zips
#   recipes/mimii_ast_cnn/run.sh --data CSV --conf FILE [--seeds "1 2 3"] [--exp DIR]     any labelled recordings
#
# Stages: 0 prepare MIMII, 1 the study once per seed, 2 one table of all seeds and one with the paper's results. A stopped
# run resumes.
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)"

stage=0          # first stage
stop_stage=2     # last stage
raw=             # folder with <ratio>_dB_<machine>/, the unpacked zips of MIMII
data=            # instead of raw: manifest.csv of wheeltapper prepare, or a table as for wheeltapper emulate
seeds="1 2 3"    # seeds of splits, heads and autoencoders; one study per seed
conf="$ROOT/recipes/mimii_ast_cnn/conf/default.yaml"
exp=exp/mimii_ast_cnn
store=           # folder for spectrograms and frozen embeddings, shared by all seeds (default: EXP/store)
set=()           # key.key=value, overrides a setting of the configuration

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
