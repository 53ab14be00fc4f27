#!/usr/bin/env bash
# The three stages of recipes/300m on one GPU, at their real lengths: pretraining at 8k, YaRN extension to 32k, fine-tuning on long chains
# of thought, for NSA and for full attention; then what they reached, and an exported folder. Stages that are done are not done again.
#   tools/stages_300m.sh [STAGE...]      STAGE: text, pretrain, extend, sft, evaluate, all (the default); runs/300m_* hold the results
# LACUNA names the program, LAUNCHER starts it for training (LAUNCHER="mpirun -n 2" SETTINGS="--set train.micro_batch=1": two GPUs),
# PRETRAIN_STEPS, EXTEND_STEPS and SFT_STEPS shorten the stages, VARIANTS="_full" or VARIANTS=nsa does one of the two models.
set -euo pipefail
cd "$(dirname "$0")/.."
lacuna=${LACUNA-$(ls build/{cuda-release,gpu,cuda}/bin/lacuna 2>/dev/null | head -1 || true)}
[ -n "$lacuna" ] || { echo "stages_300m: build the program with CUDA first: cmake --preset cuda-release && cmake --build build/cuda-release" >&2; exit 2; }
dir=.cache/kernel
variants=${VARIANTS-nsa _full}
began=$SECONDS
say() { printf '\n== %s (%d:%02d)\n' "$1" $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)); }
stages=("$@")
[ $# -gt 0 ] && [ "$1" != all ] || stages=(text pretrain extend sft evaluate)

make_text() {
  say "text and problems"
  tools/fetch_kernel_text.sh
  # Chains of 4 to 64 steps with numbers of one digit, 70 to 840 tokens, and of 100 to 1,250 with two digits, up to 32,000 tokens; lists of
  # 4 to 16 numbers, of 32 to 128, up to 4,000 tokens, and of 256 to 2,304, up to 31,000.
  problems chains "" --task modular_chain --levels 1-5 --count 8000 --heldout 128
  problems chains _long --task modular_chain --levels 7-10 --count 150 --heldout 16 --seed 2
  problems recall _short --task recall --levels 1-3 --count 12000 --heldout 64
  problems recall "" --task recall --levels 4-6 --count 1000 --heldout 16
  problems recall _long --task recall --levels 7-10 --count 40 --heldout 4 --seed 2
}

# problems KIND LENGTH OPTIONS...: dir/KIND/{train,heldout}LENGTH_*.h5 of problems that lacuna synth writes to dir/problems/KIND+LENGTH.
problems() {
  local kind=$1 length=$2 split
  local text="$dir/problems/$kind$length"
  shift 2
  [ -f "$text/train.jsonl" ] || "$lacuna" synth "$@" --output "$text"
  for split in train heldout; do
    [ -f "$dir/$kind/$split${length}_00000.h5" ] || "$lacuna" prepare "$text/$split.jsonl" --chat chatml --name "$split$length" \
      --max-tokens 32768 --tokenizer "$dir/tokenizer.json" --output "$dir/$kind" --source "lacuna synth"
  done
}

# train STAGE RECIPE STEPS: one stage of each model, unless it was done before.
train() {
  for variant in $variants; do
    local suffix=${variant#nsa} run="runs/300m_$1${variant#nsa}"
    grep -q '"event":"done"' "$run/metrics.jsonl" 2>/dev/null && continue
    say "stage $1$suffix"
    ${LAUNCHER-} "$lacuna" train "recipes/300m/$2$suffix.yaml" --resume ${3:+--set train.steps="$3"} ${SETTINGS-}
  done
}

evaluate() {
  for variant in $variants; do
    local suffix=${variant#nsa}
    say "what 32k are worth, of $variant: the same tokens with the long context, cut to 8k, and without the extension"
    score() { "$lacuna" eval loss "$@" --sets xfs,documents --length 32768 --targets-from 8192 --samples "${SAMPLES-16}"; }
    score "runs/300m_extend_32k$suffix" --output "runs/300m_extend_32k$suffix/eval/long.json"
    score "runs/300m_extend_32k$suffix" --context 8192 --output "runs/300m_extend_32k$suffix/eval/cut.json"
    score "runs/300m_pretrain_8k$suffix" --output "runs/300m_pretrain_8k$suffix/eval/long.json"
    say "needles, $variant"
    "$lacuna" eval needle "runs/300m_extend_32k$suffix" --lengths "${NEEDLE_LENGTHS-2048,4096,8192,16384,32768}" --trials "${TRIALS-4}"
    say "chains of thought on held-out problems, $variant"
    "$lacuna" eval answers "runs/300m_sft$suffix" "$dir/problems/chains/heldout.jsonl" --limit "${LIMITS-512,3072}" --batch 128 \
      --constant-from "$dir/problems/chains/train.jsonl"
    say "export, $variant"
    rm -rf "runs/300m_sft$suffix/export"
    "$lacuna" export "runs/300m_sft$suffix" "runs/300m_sft$suffix/export"
  done
}

for stage in "${stages[@]}"; do
  case $stage in
    text) make_text ;;
    pretrain) train pretrain_8k pretrain_8k "${PRETRAIN_STEPS-}" ;;
    extend) train extend_32k extend_32k_yarn "${EXTEND_STEPS-}" ;;
    sft) train sft sft_long_cot "${SFT_STEPS-}" ;;
    evaluate) evaluate ;;
    *) echo "stages_300m: $stage: unknown stage; text, pretrain, extend, sft, evaluate and all are allowed" >&2; exit 2 ;;
  esac
done
say "done"
