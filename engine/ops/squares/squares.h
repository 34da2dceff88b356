// Sums of squares of many tensors: the norm of all gradients, and where the first number is that is none.
#pragma once
#include <span>
#include <vector>

#include "engine/ops/ctx.h"

namespace vitrine {

// Sum of squares of each tensor (f32 or f64), in double. Summed in chunks in a fixed order: the same bits for any number of
// threads. NaN or infinite exactly when the tensor holds such a number (or its squares overflow double).
std::vector<double> sums_of_squares(Ctx& ctx, std::span<const Tensor> tensors);

// The GPU's twin, for f32 in its memory (ctx.cuda is set); waits for the sums.
namespace cuda {
std::vector<double> sums_of_squares(Ctx& ctx, std::span<const Tensor> tensors);
}  // namespace cuda

// Cuts the elements of many tensors into chunks of at most kChunk, by their sizes alone.
struct ElementChunk {
    int64_t tensor, begin, end;
};
std::vector<ElementChunk> element_chunks(std::span<const int64_t> counts);

}  // namespace vitrine
