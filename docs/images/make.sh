#!/usr/bin/env bash
# Makes the pictures of the README with the program itself, in a window under Xvfb. usage: docs/images/make.sh (after ./run)
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
notes='Notes: candle0=garden63; candle1=pepper77; dragon2=river77; marble0=tiger28; pepper2=cotton73; '
notes+='cotton0=candle43; pepper1=garden40; lemon0=tiger99; river1=candle79; stone2=pepper41; '
notes+='marble2=garden35; rocket0=apple53. What is pepper2?'
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cat >"$home/script" <<EOF
wait idle
click Sampling
click Greedy
key Escape
type $notes
key Ctrl+Enter
wait idle
key Ctrl+K
type Mode: Think High
key Enter
type 74*82=?
key Ctrl+Enter
wait idle
view Overview
shot $here/overview.png
view Routing
shot $here/routing.png
view Attention
shot $here/attention.png
view Streams
shot $here/streams.png
view Cache
shot $here/cache.png
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
