#!/usr/bin/env bash
# A disk that is really full: `vitrine train` on a small tmpfs waits with a message, goes on when there is room, and ends with the
# bits of a run that was never disturbed. Skipped (77) where nothing may be mounted.
# usage: full_disk_test.sh PROGRAM
set -euo pipefail
program=$(readlink -f "$1")
if [ -z "${FULL_DISK_INSIDE-}" ]; then
    unshare --user --map-root-user --mount true 2>/dev/null || { echo "no mount namespace of one's own here"; exit 77; }
    FULL_DISK_INSIDE=1 exec unshare --user --map-root-user --mount "$0" "$program"
fi

folder=$(mktemp -d)
child=''
finish() {
    if [ -n "$child" ]; then kill "$child" 2>/dev/null || true; fi
    umount "$folder/disk" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
mkdir "$folder/disk"
mount -t tmpfs -o size=64m none "$folder/disk" || { echo "no tmpfs may be mounted"; exit 77; }
train() { "$program" train --preset mix3-t1 --steps 8 --set batch=2 --set checkpoint_every=2 -t 1 --run "$1"; }

train "$folder/straight" >"$folder/straight.json" 2>/dev/null

# Room for the first checkpoint and a bit: the second one doesn't fit.
first=$(du -sk "$folder/straight/checkpoints/0" | cut -f1)
mount -o "remount,size=$((first * 3 / 2))k" "$folder/disk"
train "$folder/disk/run" >"$folder/full.json" 2>"$folder/full.err" &
child=$!
for _ in $(seq 300); do
    grep -q "the disk is full, training waits" "$folder/full.err" && break
    kill -0 "$child" 2>/dev/null || break
    sleep 0.1
done
grep "the disk is full, training waits" "$folder/full.err" || { echo "it did not wait:"; cat "$folder/full.err"; exit 1; }
kill -0 "$child" || { echo "it ended instead of waiting"; exit 1; }
[ ! -e "$folder/disk/run/checkpoints/2/manifest.json" ] || { echo "a checkpoint that did not fit counts"; exit 1; }
[ -e "$folder/disk/run/checkpoints/0/manifest.json" ] || { echo "the first checkpoint is gone"; exit 1; }

mount -o remount,size=64m "$folder/disk"
wait "$child" || { echo "it failed once there was room:"; cat "$folder/full.err"; exit 1; }
child=''
grep -q "there is room again" "$folder/full.err" || { echo "it does not say that it goes on"; exit 1; }
strip() { sed -E 's/"tokens_per_s": ?[^,}]*//' "$1"; }
diff <(strip "$folder/straight.json") <(strip "$folder/full.json") || { echo "rows differ"; exit 1; }
n=0
for file in "$folder"/straight/checkpoints/8/*.safetensors; do
    cmp "$file" "$folder/disk/run/checkpoints/8/${file##*/}" || exit 1
    n=$((n + 1))
done
[ "$n" -gt 0 ] || { echo "nothing to compare in $(ls "$folder/straight/checkpoints/8")"; exit 1; }
echo "waited, went on, same bits in $n files"

# Asked to stop while it waits, by Ctrl-C and by a line: it ends in order, says so in the folder, and goes on later.
for how in interrupt line; do
    rm -rf "$folder/disk/run"
    mount -o "remount,size=$((first * 3 / 2))k" "$folder/disk"
    mkfifo "$folder/input-$how"
    "$program" train --preset mix3-t1 --steps 8 --set batch=2 --set checkpoint_every=2 -t 1 --run "$folder/disk/run" --control \
        <"$folder/input-$how" >/dev/null 2>"$folder/full.err" &
    child=$!
    exec 3>"$folder/input-$how"
    for _ in $(seq 300); do
        grep -q "the disk is full, training waits" "$folder/full.err" && break
        sleep 0.1
    done
    if [ $how = interrupt ]; then kill -INT "$child"; else echo stop >&3; fi
    code=0
    wait "$child" || code=$?
    child=''
    exec 3>&-
    [ $code = 0 ] || { echo "$how: it ended with $code"; cat "$folder/full.err"; exit 1; }
    grep -q "stopped while the disk was full" "$folder/full.err" || { echo "$how: it does not say so"; exit 1; }
    cat "$folder"/disk/run/metrics.sqlite* | grep -aq "stopped at step 2" || { echo "$how: its folder does not say so"; exit 1; }
    mount -o remount,size=64m "$folder/disk"
    "$program" train --resume "$folder/disk/run" -t 1 >/dev/null 2>&1 || { echo "$how: it can not be gone on from"; exit 1; }
    cmp "$folder/straight/checkpoints/8/state.safetensors" "$folder/disk/run/checkpoints/8/state.safetensors" || exit 1
    echo "stopped by $how while it waited, went on, same bits"
done
