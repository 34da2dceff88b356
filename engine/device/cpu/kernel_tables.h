// The tables of kernels that were compiled in; kernels.cpp chooses among those the processor can run.
#pragma once
#include <vector>

#include "engine/device/cpu/kernels.h"

namespace vitrine::cpu {

const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
const Kernels& avx512_bf16_kernels();
const Kernels& amx_kernels();

// Every table that this processor can run, slowest first: for tests and measurements.
std::vector<const Kernels*> runnable_kernels();

}  // namespace vitrine::cpu
