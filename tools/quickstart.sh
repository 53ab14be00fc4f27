#!/usr/bin/env bash
# From a fresh Debian 12 machine to a pretrained model: set-up, build, real text, tokenizer, token shards; a model with native sparse
# attention and its full-attention twin, each on two ranks. The first run is killed with SIGKILL on the way and resumed: the steps it
# repeats must have the losses it had logged, bit for bit. Then both are compared, and the model writes.
#   tools/quickstart.sh [--fresh]                      --fresh: forget the text, the shards and the runs of before
#   tools/quickstart.sh --stages [--full] [--fresh]    three stages of training instead: tools/quickstart_stages.sh
set -euo pipefail
cd "$(dirname "$0")/.."

cache=.cache/quickstart
case "${1:-}" in
  --stages) shift; exec tools/quickstart_stages.sh "$@" ;;
  --fresh) rm -rf "$cache" runs/quickstart_nsa runs/quickstart_full ;;
  "") ;;
  *) echo "quickstart: $1: unknown option; --stages and --fresh are allowed" >&2; exit 2 ;;
esac
source tools/quickstart_common.sh
set_up_and_build

say "text, tokenizer and token shards"
fetch_text "$cache"
[ -f "$cache/train_00000.h5" ] || "$lacuna" prepare "$cache/text" --tokenizer "$cache/tokenizer.json" --output "$cache" \
  --source python3.11-doc --licence PSF --holdout validation=0.05 --holdout tutorial=tutorial

say "the recipe"
"$lacuna" plan recipes/quickstart.yaml --ranks 2

# Waits until a run has logged a step, then kills one of its ranks without warning.
kill_after() {
  local dir=$1 step=$2
  until grep -q "\"step\":$step,\"loss\"" "$dir/metrics.jsonl" 2>/dev/null; do sleep 0.2; done
  pkill -KILL -n -f "bin/lacuna train recipes/quickstart.yaml" || true
}

if ! grep -q '"event":"done"' runs/quickstart_nsa/metrics.jsonl 2>/dev/null; then
  say "pretraining with native sparse attention, to be killed after step 60"
  rm -rf runs/quickstart_nsa
  kill_after runs/quickstart_nsa 60 &
  killer=$!
  status=0
  "${launch[@]}" "$lacuna" train recipes/quickstart.yaml || status=$?
  wait "$killer"
  [ "$status" -ne 0 ] || { echo "quickstart: the run was to be killed, but it ended in good order" >&2; exit 1; }
  say "killed (exit code $status); resuming from the last checkpoint"
  "${launch[@]}" "$lacuna" train recipes/quickstart.yaml --resume
fi
if ! grep -q '"event":"done"' runs/quickstart_full/metrics.jsonl 2>/dev/null; then
  say "pretraining the full-attention twin"
  rm -rf runs/quickstart_full
  "${launch[@]}" "$lacuna" train recipes/quickstart_full.yaml
fi

say "the two side by side"
python3 tools/compare_runs.py runs/quickstart_nsa runs/quickstart_full --require-repeated-steps --most-of-unigram 0.8 --most-apart 0.01

say "a sample"
"$lacuna" generate runs/quickstart_nsa --prompt "The following example shows how to" --max-tokens 120 --temperature 0.7
say "done"
