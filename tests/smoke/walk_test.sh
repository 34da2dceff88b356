#!/usr/bin/env bash
# A newcomer's walk, in a real window: "74*82=?" in the three modes, a long message, and five questions that the screen
# answers: which experts the last "?" took in layer 4 and why; which entries CSA chose there, with what score against the cut;
# which blocks HCA keeps and how they are weighted inside; which layer mixes fastest; the cache's bytes of each kind.
# The seedling's numbers are known by heart; of the shipped model only that the questions are answered: a wide "X ± E" asks that
# a value is there and possible.
# usage: walk_test.sh PROGRAM FOLDER [WxH]   (FOLDER: where the pictures go)
set -euo pipefail
program=$(readlink -f "$1")
mkdir -p "$2"
folder=$(readlink -f "$2")
size=${3:-1280x800}
root=$(readlink -f "$(dirname "$0")/../..")
command -v xvfb-run >/dev/null || { echo "xvfb-run is not installed (package xvfb)"; exit 77; }
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export HOME=$home XDG_CONFIG_HOME=$home/config XDG_DATA_HOME=$home/data XDG_STATE_HOME=$home/state XDG_CACHE_HOME=$home/cache
export LIBGL_ALWAYS_SOFTWARE=1
# The first of the long messages of the seedling's greedy texts.
notes=$(grep -o '"user": "Notes: [^"]*"' "$root/tests/golden/seedling_greedy.json" | head -1 | cut -d'"' -f4)
[ ${#notes} -gt 200 ] || { echo "seedling_greedy.json has no long message"; exit 1; }

in_three_modes() {
    cat <<END
wait idle
set temperature 0
END
    for mode in non-think high max; do
        cat <<END
set mode $mode
type 74*82=?
key Ctrl+Enter
wait idle
END
        if [ "$mode" != non-think ]; then echo "expect-value turn/1/thinking = 500 ± 499"; fi
        cat <<END
click New
wait idle
END
    done
    cat <<END
set mode non-think
type $notes
key Ctrl+Enter
wait idle
expect end of text
END
}

seedling() {
    cat <<END
expect candle53
token 233
layer 4
view Routing
expect token 233 "?" (prompt)
expect-value routing/why/rank/0/expert = 15 ± 0
expect-value routing/why/rank/0/score = 1.312 ± 0.005
expect-value routing/why/rank/1/expert = 5 ± 0
expect-value routing/why/rank/1/margin = 0.158 ± 0.001
expect-value routing/why/next = 1.06 ± 0.005
expect Without the bias the same experts would have been chosen.
shot $folder/walk-experts.png
view Attention
expect-value attention/n_entries = 58 ± 0
expect 32 of 58 entries chosen
expect-value attention/cut = -1.68 ± 0.005
expect-value attention/left_out = -1.68 ± 0.005
expect-value attention/score/chosen/40 = -1.04 ± 0.02
expect Entry 2 (tokens 8-11) was chosen: score
shot $folder/walk-csa.png
layer 5
expect 7 blocks of 32 tokens, all kept
expect Entry 1 (tokens 32-63) is always kept
expect-value attention/entry/pool/0 = 0.04 ± 0.01
shot $folder/walk-hca.png
view Streams
expect-value streams/fastest = 0 ± 0
expect-value streams/fastest/sigma2 = 0.674 ± 0.001
shot $folder/walk-streams.png
view Cache
expect-value cache/kinds/window/held now = 1243136 ± 0
expect-value cache/kinds/CSA entries/held now = 98304 ± 0
expect-value cache/kinds/index keys/held now = 49152 ± 0
expect-value cache/kinds/HCA entries/held now = 98304 ± 0
expect-value cache/kinds/compressor state/held now = 3624960 ± 0
expect-value cache/check = 1 ± 0
shot $folder/walk-cache.png
END
}

shipped() {
    cat <<END
token 60
layer 4
view Routing
expect-value routing/why/rank/3/expert = 12 ± 12
expect Best left out: expert
view Attention
expect-value attention/n_entries = 15 ± 0
expect was chosen: score
layer 5
expect-value attention/n_entries = 3 ± 0
expect is always kept
expect-value attention/entry/pool/0 = 0.5 ± 0.5
view Streams
expect mixes the streams fastest
view Cache
expect-value cache/check = 1 ± 0
shot $folder/walk-shipped.png
END
}

begin=$SECONDS
{ in_three_modes; seedling; } >"$home/seedling"
{ in_three_modes; shipped; } >"$home/shipped"
xvfb-run -a -s "-screen 0 ${size}x24" "$program" drive "$home/seedling" -m "$root/assets/models/seedling" --size "$size"
xvfb-run -a -s "-screen 0 ${size}x24" "$program" drive "$home/shipped" --size "$size"
echo "walked in $((SECONDS - begin)) s; pictures in $folder"
