// Loops of independent multiply-adds: the peak that matrix products are compared with. For measurements only.
#pragma once
#include <cstdint>

namespace vitrine::cpu {

// Runs `rounds` rounds of 16 instructions of the widest kind the processor has; returns the floating-point operations
// of a round.
double fma_work(int64_t rounds);
double bf16_dot_work(int64_t rounds);  // only if has_bf16_work()
bool has_bf16_work();

}  // namespace vitrine::cpu
