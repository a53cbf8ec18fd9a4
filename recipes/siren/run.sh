#!/usr/bin/env bash
# SIREN (ECHO paper): frozen encoders on six years of DCASE Task 2 and four sets of machine faults, by nearest
# neighbours. The stages and options of recipes/rmis/run.sh, which see.
#
#   recipes/siren/run.sh --raw DIR [--encoders "ENCODER[@CHECKPOINT] ..."] [--data DIR] [--exp DIR]
set -euo pipefail
exec "$(dirname "$0")/../rmis/run.sh" --benchmark siren "$@"
