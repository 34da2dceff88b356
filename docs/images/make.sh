#!/usr/bin/env bash
# Makes the pictures of the README with the program itself, in a window under Xvfb. usage (after ./run):
# docs/images/make.sh [model|lab]: those of the model's views, those of the Lab, or all.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
what=${1:-all}
case $what in all | model | lab) ;; *) echo "usage: $0 [model|lab]" >&2; exit 2 ;; esac
: >"$home/script"
if [ "$what" != lab ]; then cat >>"$home/script" <<EOF; fi
wait idle
set temperature 0
type 4738*62=?
click Compare
wait idle
hover mode/Think High
shot $here/modes.png
click suggest/What is the code of Anna?
key Ctrl+Enter
wait idle
view Attention
shot $here/attention.png
view Streams
shot $here/streams.png
view Cache
shot $here/cache.png
set mode high
type What is 734 plus 289?
key Ctrl+Enter
wait idle
view Overview
shot $here/overview.png
view Routing
shot $here/routing.png
EOF
if [ "$what" != model ]; then cat >>"$home/script" <<EOF; fi
wait idle
view Lab
key Ctrl+B
click lab/experiment/X34
click lab/seeds/1
click lab/Run
wait 1
wait idle
click lab/which events/Spikes
click lab/run/X34-0001-beta2-0.95-clip-s1
click lab/plot/Loss/line/spike/200
hover Lab
wait 1
shot $here/lab-spike.png
click lab/event/Close
click lab/which events/Spikes, alarms, changes
click lab/experiment/X01
click lab/seeds/1
click lab/Run
wait 1
wait idle
hover Lab
wait 1
shot $here/lab.png
EOF
export HOME=$home XDG_CONFIG_HOME=$home/c XDG_DATA_HOME=$home/d XDG_STATE_HOME=$home/s XDG_CACHE_HOME=$home/k
export LIBGL_ALWAYS_SOFTWARE=1
xvfb-run -a -s "-screen 0 1600x1000x24" "$here/../../build/release/bin/vitrine" drive "$home/script"
