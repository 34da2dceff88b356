#!/bin/sh
# Trains the shipped model from nothing on one NVIDIA GPU: two runs, then the official layout. An interrupted run goes on when the
# script is started again.
# usage: experiments/nano/train.sh PROGRAM FOLDER [STEPS [DECAY_STEPS]]
#        PROGRAM: build/release/bin/vitrine; FOLDER gets a (dense, indexer, sparse), b (length 2,048, rounded weights) and nano
set -eu
[ $# -ge 2 ] && [ -x "$1" ] || { sed -n 's/^# usage: /usage: /p' "$0" >&2; exit 2; }
program=$(realpath "$1") steps=${3:-5000} decay=${4:-1900}
mkdir -p "$2"
cd "$2"

finished() { [ -d "$1/checkpoints/$2" ]; }
if ! finished a "$steps"; then
    if [ -d a/checkpoints ]; then "$program" train --resume a --device cuda >>a.jsonl
    else
        "$program" train --preset nano --run a --device cuda --set products=bf16 --set steps="$steps" --set schedule=constant \
            --set decay_steps=0 --set batch=64 --set sequence_length=1024 --set lr=2.5e-3 --set warmup_steps=200 \
            --set indexer=staged --set indexer_weight=1 --set indexer_dense_steps=1200 --set indexer_warmup_steps=300 \
            --set bias_speed=5e-3 --set checkpoint_every=1000 >a.jsonl
    fi
fi
end=$((steps + decay))
if ! finished b "$end"; then
    if [ -d b/checkpoints ]; then "$program" train --resume b --device cuda >>b.jsonl
    else
        "$program" train --rewind a --step "$steps" --run b --device cuda --set steps="$end" --set schedule=wsd \
            --set decay_steps="$decay" --set batch=32 --set sequence_length=2048 --set fp8_weights=true --set fp4_experts=true \
            --set fp4_index=true --set bias_speed=1e-3 --set checkpoint_every=500 >b.jsonl
    fi
fi
rm -rf nano
"$program" init --from "b/checkpoints/$end" --weights official --out nano --shard-mb 8
printf '{\n "bos_token_id": 0,\n "eos_token_id": 1,\n "do_sample": false\n}\n' >nano/generation_config.json
"$program" eval -m nano --device cuda --suite nano -n 500
