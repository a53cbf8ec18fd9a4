#!/usr/bin/env bash
# Ablation of the objective: short runs that each differ from a configuration in one setting, on the shards of run.sh,
# probed on its manifests.
#
#   recipes/pretrain/ablation.sh [--from EXP] [--exp DIR] [--rows "ROW ..."] [--propeller "MANIFEST ..."]
#
# Complete runs are skipped and a killed run resumes.
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)"

from=exp/pretrain # experiment of run.sh: its shards and manifests
exp=exp/ablation  # folder for all results
conf="$ROOT/recipes/pretrain/conf/small.yaml"
rows="full no_band_loss no_patch_loss eat_band_target augmentation six_masks" # variants to run
steps=600         # training steps per run
seeds=            # seeds of each run (default: 0; for row full 0 1 2)
threads=1         # threads per run
propeller=        # manifests of emulated sets, for the probe

# shellcheck source=tools/parse_options.sh
. "$ROOT/tools/parse_options.sh"

"$ROOT/tools/setup.sh"
# shellcheck source=tools/path.sh
. "$ROOT/tools/path.sh"

# What a row changes.
change() {
  case $1 in
    full) ;;
    no_band_loss) echo "pretrain.band_weight=0" ;;
    no_patch_loss) echo "pretrain.patch_weight=0" ;;
    eat_band_target) echo "pretrain.target.band=mean" ;;
    augmentation) echo "pretrain.gain_db=6 pretrain.mix_share=0.8" ;;
    six_masks) echo "pretrain.mask.clones=6 pretrain.mask.max_bands=24 pretrain.loop.batch_size=12" ;; # the same time a step
    *) echo "ablation.sh: --rows: expected names from its own list, found $1" >&2 && exit 1 ;;
  esac
}

sources=()
for source in simulated=0.5 learn_esc50=0.3 learn_drones=0.2; do
  if [ -d "$from/shards/${source%=*}" ]; then sources+=(--source "$from/shards/$source"); fi
done
sets=()
for judged in esc50.csv cwru/manifest.csv; do
  if [ -f "$from/manifests/$judged" ]; then sets+=(--data "${judged%%[./]*}=$from/manifests/$judged"); fi
done
read -ra mixtures <<<"$propeller"
for number in "${!mixtures[@]}"; do sets+=(--data "propeller$((number + 1))=${mixtures[number]}"); done
if [ "${#sources[@]}" -eq 0 ] || [ "${#sets[@]}" -eq 0 ]; then
  echo "ablation.sh: --from $from: expected shards and manifests that recipes/pretrain/run.sh made, found none" >&2
  exit 1
fi

read -ra rows_given <<<"$rows"
for row in "${rows_given[@]}"; do
  changed=$(change "$row")
  settings="threads=$threads pretrain.loop.steps=$steps pretrain.ema_steps=$steps $changed"
  own=${seeds:-0}
  if [ "$row" = full ]; then own=${seeds:-0 1 2}; fi
  weights=() judged=$exp/$row.json
  for seed in $own; do
    run=$exp/${row}_$seed
    wheeltapper pretrain --exp "$run" --conf "$conf" --set "seed=$seed $settings" "${sources[@]}"
    weights+=("$run/pretrain/encoder.safetensors")
    if [ "${weights[-1]}" -nt "$judged" ]; then rm -f "$judged"; fi # of earlier weights
  done
  if [ ! -f "$judged" ]; then
    wheeltapper probe "${sets[@]}" --exp "$run" --checkpoint "${weights[@]}" --json "$judged"
  fi
done
python "$ROOT/recipes/pretrain/local/ablation_table.py" "$exp" "${rows_given[@]}"
