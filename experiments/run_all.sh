#!/bin/sh
# Runs every experiment of the lab in full with three seeds and writes each result into its README.md.
# usage: experiments/run_all.sh PROGRAM [NAME...]   (PROGRAM: build/release/bin/vitrine)
set -e
program=$(realpath "$1")
shift
cd "$(dirname "$0")"
for readme in */README.md; do
    folder=${readme%/README.md}
    name=$(echo "${folder%%_*}" | tr x X)
    [ $# -eq 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
    echo "$name" >&2
    case $name in
    X02 | X33) "$program" train --experiment "$name" --update "$readme" >/dev/null ;;
    X08)
        "$program" train --experiment X08 --knob measure=../assets/models/seedling --knob measure_to=65536 \
            --update "$readme" >/dev/null
        ;;
    *) "$program" train --experiment "$name" --size full --seeds 3 --update "$readme" >/dev/null ;;
    esac
done
