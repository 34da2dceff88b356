#!/bin/sh
# Runs the experiments of the lab with three seeds, one after the other, and writes each result into its README.md. One that fails
# is told at the end; the others are done. The full tables are 312 training runs of up to a few minutes each (X03 alone 120).
# usage: experiments/run_all.sh [--quick] PROGRAM [NAME...]   (PROGRAM: build/release/bin/vitrine; NAME: X01 ...; none: all)
#        --quick: the presets instead of the full tables
set -eu
size=full
if [ "${1-}" = --quick ]; then size=quick && shift; fi
[ $# -gt 0 ] && [ -x "$1" ] || { sed -n 's/^# usage: /usage: /p' "$0" >&2; exit 2; }
program=$(realpath "$1")
shift
names=$*
failed=''
cd "$(dirname "$0")"
for readme in */README.md; do
    name=$(echo "${readme%%_*}" | tr x X)
    [ -z "$names" ] || case " $names " in *" $name "*) ;; *) continue ;; esac
    case $name in
    X02 | X17 | X33) options='' ;;
    X09) options='--knob items=200 --knob texts=20' ;;
    X11) options='--knob items=200' ;;
    X12) options='--knob items=500' ;;
    X15) options='--knob texts=200' ;;
    X19) options='--knob texts=100 --knob items=200' ;;
    X08) options='--knob measure=../assets/models/seedling --knob measure_to=65536' ;;
    *) options="--size $size --seeds 3" ;;
    esac
    case "$name $size" in "X08 quick" | "X09 quick" | "X11 quick" | "X12 quick" | "X15 quick" | "X19 quick") options='' ;; esac
    echo "$name: train --experiment $name $options" >&2
    # shellcheck disable=SC2086  # options are words
    nice "$program" train --experiment "$name" $options --update "$readme" >/dev/null || failed="$failed $name"
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
