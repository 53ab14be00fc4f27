#!/usr/bin/env bash
# The three stages of a training plan at CPU size, each from a recipe of recipes/small: pretraining at 512 tokens, YaRN extension to 2,048,
# fine-tuning on chains of thought; then what they reached, and an exported folder. tools/quickstart.sh --stages runs this.
#   tools/quickstart_stages.sh [--full] [--fresh]     --full: also the full-attention twin; --fresh: forget the runs of before
set -euo pipefail
cd "$(dirname "$0")/.."

variants=("")
fresh=
for option in "$@"; do
  case $option in
    --full) variants=("" _full) ;;
    --fresh) fresh=1 ;;
    *) echo "quickstart: $option: unknown option; --full and --fresh are allowed" >&2; exit 2 ;;
  esac
done
cache=.cache/stages
[ -z "$fresh" ] || rm -rf "$cache" runs/small_{pretrain,extend,sft}{,_full}
source tools/quickstart_common.sh
set_up_and_build

say "text and problems"
fetch_text "$cache"
[ -f "$cache/shards/train_00000.h5" ] || "$lacuna" prepare "$cache/text" --tokenizer "$cache/tokenizer.json" --output "$cache/shards" \
  --source python3.11-doc --licence PSF --holdout validation=0.05
[ -f "$cache/problems/train.jsonl" ] || "$lacuna" synth --task modular_chain --levels 1 --count 40000 --heldout 600 --output "$cache/problems"
for split in train heldout; do
  [ -f "$cache/chains/${split}_00000.h5" ] || "$lacuna" prepare "$cache/problems/$split.jsonl" --chat chatml --name "$split" \
    --tokenizer "$cache/tokenizer.json" --output "$cache/chains" --source "lacuna synth"
done

# One stage, unless it was done before.
stage() {
  grep -q '"event":"done"' "runs/small_$1/metrics.jsonl" 2>/dev/null && return
  say "stage $1"
  "${launch[@]}" "$lacuna" train "recipes/small/$1.yaml" --resume
}

for variant in "${variants[@]}"; do
  for name in pretrain extend sft; do stage "$name$variant"; done

  say "what the extension is worth: the same tokens with the long context, cut to 512, and without the extension"
  score() { "$lacuna" eval loss "$@" --length 2048 --targets-from 1024 --samples 24; }
  score "runs/small_extend$variant" --output "runs/small_extend$variant/eval/long.json"
  score "runs/small_extend$variant" --context 512 --output "runs/small_extend$variant/eval/cut.json"
  score "runs/small_pretrain$variant" --output "runs/small_pretrain$variant/eval/long.json"

  say "chains of thought on held-out problems"
  "$lacuna" eval answers "runs/small_sft$variant" "$cache/problems/heldout.jsonl" --limit 96 --constant-from "$cache/problems/train.jsonl"

  say "export"
  rm -rf "runs/small_sft$variant/export"
  "$lacuna" export "runs/small_sft$variant" "runs/small_sft$variant/export"
done

say "the stages side by side"
python3 tools/compare_stages.py "${variants[@]/#/runs/small_@}"
say "done"
