#!/usr/bin/env bash
# Builds for the GPU of this machine, checks CUDA against the CPU and the reference vectors, and measures. No test of the CI has
# a GPU; what this prints is kept in docs/PERF.md with machine and commit.
#
#   tests/gpu/run.sh [--no-build] [--peer HFPERF.py]
#
#   --no-build   use build/gpu as it is
#   --peer FILE  a Python script that measures the Hugging Face implementation on the same shapes (gpu-small, gpu-large), run
#                with this machine's python3 in the same call
#
# Needs: CMake, a C++20 compiler, nvcc 12.0 or newer, and Eigen, nlohmann-json, SQLite, utf8proc, GoogleTest as CMake finds them
# (CMAKE_PREFIX_PATH is respected). compute-sanitizer is used when it is there.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tree="$root/build/gpu" peer='' is_built=no
while [ $# -gt 0 ]; do
    case $1 in
        --no-build) is_built=yes ;;
        --peer) peer=$2; shift ;;
        *) echo "unknown option $1" >&2; exit 2 ;;
    esac
    shift
done

title() { printf '\n== %s\n' "$*"; }
if [ $is_built = no ]; then
    title "build"
    cmake -S "$root" -B "$tree" -DCMAKE_BUILD_TYPE=Release -DVITRINE_GUI=OFF -DVITRINE_TESTS=ON -DVITRINE_CUDA=ON >/dev/null
    cmake --build "$tree" --parallel "$(nproc)" --target gpu_test vitrine | tail -1
fi
vitrine="$tree/bin/vitrine" tests="$tree/bin/gpu_test"
title "machine"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$vitrine" --version

title "CUDA against the CPU, the reference vectors and itself (CudaRanks: over NCCL where there are two GPUs)"
status=0
VITRINE_TEST_DEVICE=0 "$tests" --gtest_brief=1 || status=1

if command -v compute-sanitizer >/dev/null; then
    check() {
        title "compute-sanitizer: $1"
        VITRINE_TEST_DEVICE=0 timeout 300 compute-sanitizer --tool "$1" --error-exitcode 9 "$tests" --gtest_filter="$2" \
            --gtest_brief=1 | tail -3 || status=1
    }
    check memcheck '*Cuda*:*Golden*tiny15*:*Golden*flashlike*'
    check memcheck '*Tape*:CrossEntropy*:AdamW*:Muon*:NewtonSchulz*:MoeCuda.trains_as*:CudaTrain.bf16*'  # training: small shapes
    check racecheck 'HyperCuda*:CompressCuda*:RouterCuda*:*Golden*tiny15*'  # slow: small shapes only
    check racecheck 'HyperTape*:RouterTape*:RmsnormTape*:CompressTape*:CrossEntropy*:AdamW*:MoeCuda.trains_as*:*MoeCuda.agrees*'
fi

models=$(mktemp -d)
trap 'rm -rf "$models"' EXIT
for preset in gpu-small gpu-large; do
    title "speed: $preset, BF16"
    "$vitrine" init --preset $preset --seed 1 --weights bf16 --out "$models/$preset" >/dev/null
    for numerics in reference exact; do
        "$vitrine" bench -m "$models/$preset" --device cuda --numerics $numerics --prefill 4096 --context 4096
    done
    title "side by side: $preset"
    for together in 4 16; do "$vitrine" bench -m "$models/$preset" --device cuda --sequences $together; done
    if [ $preset = gpu-large ]; then
        title "speed: $preset at depth 262,144"
        "$vitrine" bench -m "$models/$preset" --device cuda --numerics reference --prefill 4096 --context 262144
    fi
done
for preset in gpu-small gpu-large; do
    title "training: $preset, BF16 products, AdamW"
    "$vitrine" bench --train --preset $preset --steps 10 --device cuda
done
if [ -n "$peer" ]; then
    title "the Hugging Face implementation on the same machine"
    python3 "$peer"
fi
exit $status
