#!/bin/bash
# Speed of Vitrine beside llama.cpp on the `mid` model (BF16), in turn in one run, as ratios. By hand, on a quiet machine.
#   peer.sh VITRINE WORK_FOLDER [--chroot DIR] [--deep] [--rounds N]
# WORK_FOLDER gets mid-hf (for Vitrine) and mid.gguf (for llama.cpp) on the first run: 2 GB. llama.cpp comes from Debian
# sid (libllama-dev libggml-dev python3-gguf g++), here or in a chroot DIR where WORK_FOLDER is bound to /box. --deep adds
# depths 16,896 and 65,536: several minutes.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,6s/^# //p' "$0"; exit 2; }
vitrine=$(realpath "$1"); work=$(realpath -m "$2"); shift 2
chroot=""; deep=0; rounds=3
while [ $# -gt 0 ]; do
    case $1 in
        --chroot) chroot=$2; shift 2 ;;
        --deep) deep=1; shift ;;
        --rounds) rounds=$2; shift 2 ;;
        *) echo "$1: unknown option" >&2; exit 2 ;;
    esac
done
here=$(dirname "$(realpath "$0")")
mkdir -p "$work"; out=$work/peer-out; rm -rf "$out"; mkdir "$out"
in_box() { if [ -n "$chroot" ]; then chroot "$chroot" bash -c "cd /box && $1"; else (cd "$work" && bash -c "$1"); fi; }
cp "$here/llama_perf.cpp" "$here/../reference/gen_dsv4.py" "$work/"
[ -e "$work/llama_perf" ] || in_box 'g++ -O2 -std=c++17 llama_perf.cpp -o llama_perf -lllama -lggml -lggml-base'
[ -e "$work/mid.gguf" ] || in_box 'python3 gen_dsv4.py --preset mid --gguf mid.gguf --type bf16'
[ -e "$work/mid-hf/model.safetensors" ] || in_box 'python3 gen_dsv4.py --preset mid --hf mid-hf'
threads=$(nproc)
bench() { "$vitrine" bench -m "$work/mid-hf" --numerics "$1" --context "$2" --json > "$out/vitrine-$1-$2-$3.json"; }
echo "$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2-), $threads threads, $rounds rounds"
echo "load before: $(cut -d' ' -f1-3 /proc/loadavg)"
awk -v n="$threads" '$1 > n / 4 { print "OTHERS ARE RUNNING: the ratios mean nothing (llama.cpp falls to a tenth)" }' /proc/loadavg
for r in $(seq "$rounds"); do
    in_box "./llama_perf -m mid.gguf -p 512 -n 128 -d 0 -j $threads" > "$out/llama-512-$r.txt"
    bench reference 512 "$r"
    bench exact 512 "$r"
done
if [ $deep = 1 ]; then
    in_box "./llama_perf -m mid.gguf -p 512 -n 64 -d 16384 -j $threads" > "$out/llama-16896-1.txt"
    for context in 16896 65536; do for n in reference exact; do bench $n $context 1; done; done
fi
echo "load after: $(cut -d' ' -f1-3 /proc/loadavg)"
python3 "$here/peer_ratios.py" "$out"
