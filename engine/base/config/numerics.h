// The two numeric modes, named once.
#pragma once

namespace vitrine {

inline constexpr int kCpu = -1;  // where a GPU's number is expected

// exact: FP32 activations and cache, as the Hugging Face implementation computes. reference: BF16 streams and op outputs,
// quantised activations where weights are FP8/FP4, packed cache, Hadamard + FP4 index path, as the official code computes.
enum class Numerics { exact, reference };
inline const char* numerics_name(Numerics n) { return n == Numerics::exact ? "exact" : "reference"; }

}  // namespace vitrine
