#!/bin/sh
# Trains the shipped model from nothing on NVIDIA GPUs: three runs, then the official layout. An interrupted run goes on when the
# script is started again.
# usage: experiments/nano/train.sh PROGRAM FOLDER [STEPS [DECAY_STEPS [INDEXER_STEPS]]]
#        PROGRAM: build/release/bin/vitrine; FOLDER gets a (dense, indexer, sparse), b (length 2,048, rounded weights), c (the
#        indexer alone) and nano. RANKS=2: two GPUs share every batch, by mpirun.
set -eu
[ $# -ge 2 ] && [ -x "$1" ] || { sed -n '/^# usage: /,/^set/s/^# //p' "$0" >&2; exit 2; }
program=$(realpath "$1") steps=${3:-5000} decay=${4:-1900} indexer=${5:-1500}
mkdir -p "$2"
cd "$2"

train() { ${RANKS:+mpirun -n "$RANKS"} "$program" train "$@"; }
# run NAME LAST_STEP OPTIONS...: from its beginning, or on from its newest checkpoint
run() {
    name=$1 last=$2
    shift 2
    if [ -d "$name/checkpoints/$last" ]; then return; fi
    if [ -d "$name/checkpoints" ]; then train --resume "$name" --device cuda >>"$name.jsonl"
    else train "$@" --run "$name" --device cuda --set steps="$last" >"$name.jsonl"; fi
}
run a "$steps" --preset nano --set products=bf16 --set schedule=constant --set decay_steps=0 --set batch=64 \
    --set sequence_length=1024 --set lr=2.5e-3 --set warmup_steps=200 --set indexer=staged --set indexer_weight=1 \
    --set indexer_dense_steps=1200 --set indexer_warmup_steps=300 --set bias_speed=5e-3 \
    --set checkpoint_every=1000
end=$((steps + decay))
run b "$end" --rewind a --step "$steps" --set schedule=wsd --set decay_steps="$decay" --set batch=32 \
    --set sequence_length=2048 --set fp8_weights=true --set fp4_experts=true --set fp4_index=true --set bias_speed=1e-3 \
    --set checkpoint_every=500
run c $((end + indexer)) --rewind b --step "$end" --set schedule=wsd --set decay_steps="$indexer" --set lr=5e-3 \
    --set batch=16 --set long_share=1 --set indexer=warm_up --set checkpoint_every=500

last=$((end + indexer))
for weights in bf16 official; do
    out=$weights
    if [ $weights = official ]; then out=nano; fi
    rm -rf "$out"
    "$program" init --from "c/checkpoints/$last" --weights $weights --out "$out" --shard-mb 8
    printf '{\n "bos_token_id": 0,\n "eos_token_id": 1,\n "do_sample": false\n}\n' >"$out/generation_config.json"
done
"$program" eval -m nano --device cuda --suite nano -n 500
