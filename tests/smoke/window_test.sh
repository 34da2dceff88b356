#!/usr/bin/env bash
# Starts the real window under Xvfb, lets the seedling answer, takes a picture, and checks that there is something in it.
# usage: window_test.sh PROGRAM FOLDER   (FOLDER: where the pictures go)
set -euo pipefail
program=$(readlink -f "$1")
mkdir -p "$2"
folder=$(readlink -f "$2")
seedling=$(readlink -f "$(dirname "$0")/../../assets/models/seedling")
command -v Xvfb >/dev/null || { echo "Xvfb is not installed (package xvfb)"; exit 77; }

# Settings and conversations of its own, so that nobody's are touched.
home=$(mktemp -d)
xvfb_pid=''
finish() {
    if [ -n "$xvfb_pid" ]; then kill "$xvfb_pid" 2>/dev/null || true; fi
    rm -rf "$home"
}
trap finish EXIT
export HOME=$home XDG_CONFIG_HOME=$home/config XDG_DATA_HOME=$home/data XDG_STATE_HOME=$home/state XDG_CACHE_HOME=$home/cache

# Xvfb picks a free display and writes its number.
mkfifo "$home/display"
Xvfb -displayfd 3 -screen 0 1600x1000x24 -nolisten tcp 3>"$home/display" 2>"$home/xvfb.log" &
xvfb_pid=$!
read -r -t 30 display <"$home/display" || { echo "Xvfb did not start:"; cat "$home/xvfb.log"; exit 1; }
export DISPLAY=:$display LIBGL_ALWAYS_SOFTWARE=1

cat >"$home/script" <<EOF
wait idle
click Sampling
click Greedy
key Escape
type 74*82=?
key Ctrl+Enter
wait idle
expect 6108
click New
type 12+30=?
key Ctrl+Enter
wait idle
expect 42
view Overview
shot $folder/overview.png
view Routing
expect affinity
shot $folder/routing.png
type 72*59=?
click Compare
wait idle
expect 4248
expect-value modes/high/written = 40 ± 0
shot $folder/modes.png
EOF
timeout 300 "$program" drive "$home/script" -m "$seedling"

# The shipped model: what it says is its own affair; that it offers questions and answers one is not.
cat >"$home/shipped" <<EOS
wait idle
set temperature 0
click suggest/What is an expert?
key Ctrl+Enter
wait idle
expect end of text
view Attention
shot $folder/shipped.png
EOS
timeout 300 "$program" drive "$home/shipped"

# A picture that is no PNG, has another size, or holds one colour only is no picture of the window.
for picture in "$folder/overview.png" "$folder/routing.png" "$folder/modes.png" "$folder/shipped.png"; do
    size=$(od -An -tu1 -j16 -N8 "$picture" | awk '{print ($1*16777216+$2*65536+$3*256+$4) "x" ($5*16777216+$6*65536+$7*256+$8)}')
    signature=$(od -An -tx1 -N8 "$picture" | tr -d ' \n')
    bytes=$(stat -c %s "$picture")
    [ "$signature" = 89504e470d0a1a0a ] || { echo "$picture: no PNG ($signature)"; exit 1; }
    case $size in
        [1-9][0-9][0-9]*x[1-9][0-9][0-9]*) ;;
        *) echo "$picture: $size pixels, expected a window's size"; exit 1 ;;
    esac
    [ "$bytes" -gt 40000 ] || { echo "$picture: $bytes bytes for $size: blank"; exit 1; }
    echo "$picture: $size, $bytes bytes"
done
