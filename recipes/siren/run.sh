#!/usr/bin/env bash
# SIREN (ECHO paper): frozen encoders with nearest neighbours on six years of DCASE Task 2 and four sets of machine
# faults. Stages and options are those of recipes/rmis/run.sh.
#
#   recipes/siren/run.sh --raw DIR [--encoders "ENCODER[@CHECKPOINT] ..."] [--data DIR] [--exp DIR]
set -euo pipefail
exec "$(dirname "$0")/../rmis/run.sh" --benchmark siren "$@"
