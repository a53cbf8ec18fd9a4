#!/usr/bin/env bash
# From recordings to a validated DCASE Task 2 submission package.
#
#   ./run.sh [--data synthetic|dcase2026|DIR|manifest.csv] [--conf FILE] [--exp DIR] [--stage N] [--stop-stage M] [--set KEY=VALUE]...
#
# Stages: 0 data, 1 pretrain, 2 adapt, 3 embed, 4 score, 5 fuse, 6 evaluate, 7 package, 8 benchmark, 9 report.
# Complete stages are skipped and a killed run resumes. DIR holds <machine>/{train,test}/*.wav. Paths are relative to the
# current folder; --conf also accepts the name of a recipe's configuration (toy.yaml). A run remembers its recordings and
# settings: --exp alone continues it.
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)"

stage=0               # first stage
stop_stage=9          # last stage
data=                 # recordings, as above (default: those of the run in --exp; in a new run simulated machines)
conf=                 # configuration (default: that of the run in --exp; in a new run the main recipe's default.yaml)
exp=exp/default       # folder for all results
processes=1           # stages 1 to 3 run in so many processes, one for each GPU
set=()                # key.key=value, overrides a setting of the configuration

# shellcheck source=tools/parse_options.sh
. "$ROOT/tools/parse_options.sh"

"$ROOT/tools/setup.sh"
# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"

if [ -z "$conf" ] && [ ! -f "$exp/config.yaml" ]; then conf="$ROOT/recipes/dcase2026/conf/default.yaml"; fi
launch=()
if [ "$processes" -gt 1 ]; then launch=(launch --processes "$processes" --); fi
exec wheeltapper ${launch[@]+"${launch[@]}"} run --exp "$exp" ${conf:+--conf "$conf"} ${data:+--data "$data"} ${set[@]+"${set[@]/#/--set=}"} \
  --stage "$stage" --stop-stage "$stop_stage"
