#!/usr/bin/env bash
# The Lab in a real window under Xvfb: a provoked spike from its event to its batch, layers and matrices, back to the checkpoint
# before it, one thing changed, replayed. With "gain" instead: hyper-connections against mHC, then another depth (two minutes).
# With "measure": the shipped model is measured by X17 with two texts a domain, another one is begun and ended (20 s).
# usage: lab_test.sh PROGRAM FOLDER [spike|gain|measure] [WxH]   (FOLDER: where the pictures go)
set -euo pipefail
program=$(readlink -f "$1")
mkdir -p "$2"
folder=$(readlink -f "$2")
which=${3:-spike}
size=${4:-1600x1000}
command -v xvfb-run >/dev/null || { echo "xvfb-run is not installed (package xvfb)"; exit 77; }
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export HOME=$home XDG_CONFIG_HOME=$home/config XDG_DATA_HOME=$home/data XDG_STATE_HOME=$home/state XDG_CACHE_HOME=$home/cache
export LIBGL_ALWAYS_SOFTWARE=1

# Random tokens at steps 54 to 56 of 70; checkpoints of steps 0, 50 and 70.
spike_script() {
    cat <<END
wait idle
view Lab
key Ctrl+B
click lab/experiment/X34
click lab/seeds/1
click lab/knob/noise_at
key Ctrl+A
type 54
click lab/knob/steps
key Ctrl+A
type 70
click lab/Run
wait 1
wait idle
click lab/which events/Spikes
click lab/run/X34-0001-beta2-0.95-clip-s1
click lab/plot/Loss/line/spike/54
expect spike at step 54
expect-value lab/event/batch/step = 54 ± 0
expect-value lab/event/domains/random tokens = 16 ± 0
expect-value lab/event/layers/0/grad_norm = 500 ± 500
shot $folder/lab-spike.png
hover lab/event/matrices/0/name
expect-value lab/event/matrices/0/grad_norm = 500 ± 500
hover lab/event/samples/0
shot $folder/lab-batch.png
click lab/event/Replay
wait 1
wait idle
click lab/tab/Difference
expect loss.next: equal bit for bit over 20 shared steps
click lab/run/X34-0001-beta2-0.95-clip-s1
click lab/event/Change
expect-value lab/rewind/step = 50 ± 0
click lab/rewind/key
click lab/rewind/key/noise_batches
type 0
key Enter
wait 1
wait idle
expect train.noise_batches
expect loss.next: differs from step 54 on
shot $folder/lab-difference.png
click lab/tab/Plots
wait 1
shot $folder/lab-replay.png
click lab/tab/Verdict
expect Measured here
click lab/tab/README
expect X34: spikes from data
shot $folder/lab-readme.png
END
}

gain_script() {
    cat <<END
wait idle
view Lab
key Ctrl+B
click lab/experiment/X01
click lab/seeds/1
click lab/Run
wait 1
wait idle
shot $folder/lab-gain.png
click lab/tab/Verdict
wait 1
shot $folder/lab-verdict.png
click lab/tab/Plots
click lab/knob/layers
key Ctrl+A
type 12
click lab/Run
wait 1
wait idle
shot $folder/lab-depth.png
END
}

measure_script() {
    cat <<END
wait idle
view Lab
key Ctrl+B
click lab/experiment/X17
expect Nothing was measured yet
click lab/knob/texts
key Ctrl+A
type 2
click lab/Run
wait idle
click lab/tab/Verdict
expect The affinity matrix names
shot $folder/lab-measured.png
click lab/tab/Plots
expect Recall by layer
click lab/experiment/X09
click lab/Run
wait 1
expect is measuring
click lab/measuring/Stop
wait idle
expect Nothing was measured yet
END
}

"${which}_script" >"$home/script"
begin=$SECONDS
xvfb-run -a -s "-screen 0 ${size}x24" "$program" drive "$home/script" --size "$size"
echo "$which: $((SECONDS - begin)) s; pictures in $folder"
