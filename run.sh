#!/usr/bin/env bash
# From recordings to a validated DCASE Task 2 submission package.
#
#   ./run.sh [--data synthetic|dcase2026|DIR|manifest.csv] [--conf FILE] [--exp DIR] [--stage N] [--stop-stage M] [--set KEY=VALUE]...
#
# Stages: 0 data, 1 pretrain, 2 adapt, 3 embed, 4 score, 5 fuse, 6 evaluate, 7 package, 8 benchmark, 9 report.
# Each skips what is complete and goes on where a killed run stopped. DIR holds <machine>/{train,test}/*.wav.
# Paths are relative to the folder in which it is started; --conf also takes a name among the recipes' (toy.yaml). A run
# remembers its recordings and settings: --exp alone goes on with it.
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)"

stage=0               # first stage
stop_stage=9          # last stage
data=                 # recordings, as above (those of an earlier run in --exp; in a new one simulated machines)
conf=                 # configuration (that of an earlier run in --exp; in a new one the main recipe's default.yaml)
exp=exp/default       # all results go here
set=()                # settings over the configuration's, key.key=value

# shellcheck source=tools/parse_options.sh
. "$ROOT/tools/parse_options.sh"

"$ROOT/tools/setup.sh"
# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"

if [ -z "$conf" ] && [ ! -f "$exp/config.yaml" ]; then conf="$ROOT/recipes/dcase2026/conf/default.yaml"; fi
exec wheeltapper run --exp "$exp" ${conf:+--conf "$conf"} ${data:+--data "$data"} ${set[@]+"${set[@]/#/--set=}"} \
  --stage "$stage" --stop-stage "$stop_stage"
