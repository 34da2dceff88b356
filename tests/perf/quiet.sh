#!/usr/bin/env bash
# What only a quiet machine can tell, as medians or ratios of runs in turn; each part says how busy the machine was.
#   quiet.sh BUILD_FOLDER WORK_FOLDER [watching|cancels|depth|tokenizer|drawing]...     (without a part: all, some 20 minutes)
# BUILD_FOLDER: build/release. WORK_FOLDER gets the `mid` checkpoint for depth: 1 GB. drawing needs xvfb-run.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,4s/^# *//p' "$0"; exit 2; }
build=$(realpath "$1"); work=$(realpath -m "$2"); shift 2
bin=$build/bin; root=$(dirname "$(realpath "$0")")/../..
mkdir -p "$work"
[ $# -gt 0 ] || set -- watching cancels depth tokenizer drawing
threads=$(nproc)

# The shipped model, base set and Attention view, medians of 20 pairs each: bar 5 %.
watching() { for _ in 1 2 3 4; do "$bin/vitrine" bench | grep -E '^decode|^watching|in the Attention view'; done; }

# 500 at random points of prefill and decoding, 100 while a model loads; median, p99, longest: bar 100 ms.
cancels() { ninja -C "$build" cancel_test >/dev/null; "$bin/cancel_test" --gtest_repeat=5 | grep -E ' ms|PASSED|FAILED'; }

# Decoding at 65,536 against 512, in turn: bar 15 % less in `reference`, 25 % in `exact`.
depth() {
    [ -e "$work/mid/config.json" ] || "$bin/vitrine" init --preset mid --seed 1 --out "$work/mid"
    for numerics in reference exact; do
        for context in 512 65536 512 65536; do
            echo "$numerics, context $context:"
            "$bin/vitrine" bench -m "$work/mid" --numerics $numerics --context $context |
                grep -E '^decode|^reading|cache'
        done
    done
}

# Processor time at n and 2n bytes of every class of text: bar 2.2.
tokenizer() { ninja -C "$build" tokenizer_bench >/dev/null; "$bin/tokenizer_bench"; }

# An answer of 1,500 tokens of the shipped model with the window on Overview and on Attention, against none; then an idle window
# for 10 s (the script itself asks for a frame a second). Bars: at most 10 frames a second, 20 % of tokens/s, 2 % of a core.
drawing() {
    local script=$work/drawing.script view question='Complete the 4x4 square: _ 1 _ 3 / _ _ 4 _ / _ 3 _ 1 / 1 _ _ _'
    {
        printf 'wait idle\nset temperature 0\nset mode max\nview Overview\npace real\n'
        printf 'type %s\nkey Ctrl+Enter\nwait idle\npace fast\n' "$question"
        for view in Overview Attention; do
            printf 'view %s\n' "$view"
            for _ in 1 2 3 4; do printf 'pace real\nkey Ctrl+R\nwait idle\npace fast\n'; done
        done
        printf 'view Overview\nwait 12\npace real\nwait 10\npace fast\n'
    } >"$script"
    for _ in 1 2 3; do "$bin/vitrine" chat --mode max --temp 0 -p "$question" 2>&1 >/dev/null | grep -o '[0-9]* tokens/s'; done
    LIBGL_ALWAYS_SOFTWARE=1 xvfb-run -a -s "-screen 0 1280x800x24" "$bin/vitrine" drive "$script" --size 1280x800 --forget
}

cd "$root"
for part in "$@"; do
    case $part in
        watching|cancels|depth|tokenizer|drawing) ;;
        *) echo "$part: expected watching, cancels, depth, tokenizer or drawing" >&2; exit 2 ;;
    esac
    echo "== $part, $threads threads, load $(cut -d' ' -f1-3 /proc/loadavg)"
    "$part"
    echo "load after: $(cut -d' ' -f1-3 /proc/loadavg)"
done
