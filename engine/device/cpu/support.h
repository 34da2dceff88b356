// What the kernels' files share besides the contract: the processor's features, tables, scratch memory of a thread.
//
// Compiled without special instructions, so that the files that are can call it safely.
#pragma once
#include <cstddef>
#include <cstdint>

namespace vitrine::cpu {

struct Features {
    bool avx2 = false;         // AVX2, FMA, F16C
    bool avx512 = false;       // and F, BW, DQ, VL
    bool avx512_bf16 = false;  // and BF16, VBMI, VNNI
    bool amx_bf16 = false;     // and AMX-TILE, AMX-BF16; the kernel let this process use the tiles
};
// What this processor has and the operating system saves; asked once.
const Features& features();

struct Tables {
    alignas(64) float e8m0[256];             // the scale of every E8M0 code
    alignas(64) uint8_t fp8_high[256][128];  // [scale code][E4M3 magnitude]: upper byte of the scaled value in BF16
    alignas(64) uint8_t fp8_low[256][128];   // and the lower byte
    alignas(64) uint16_t fp4[256][16];       // [scale code][E2M1 code]: the scaled value in BF16
};
const Tables& tables();

float exp_any(float x);  // std::exp, for files compiled with special instructions

// At least `bytes` of memory, aligned to 64, owned by the calling thread until its next call with the same slot. Grows
// only.
void* thread_scratch(int slot, size_t bytes);
constexpr int kSlotX = 0, kSlotW = 1, kSlotOther = 2, kSlotIndexQuery = 3, kNSlots = 4;

}  // namespace vitrine::cpu
