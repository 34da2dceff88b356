#!/bin/sh
# Ten thousand mutants per format (or $1), in the build folder $2 (by default build/asan, which it makes: crashes need
# sanitizers to be seen).
set -eu
cd "$(dirname "$0")/../.."
build=${2:-build/asan}
[ -f "$build/build.ninja" ] || cmake --preset asan -DVITRINE_GUI=OFF
ninja -C "$build" fuzz_test
VITRINE_FUZZ_MUTANTS=${1:-10000} "$build/bin/fuzz_test"
