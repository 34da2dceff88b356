// A CUDA graph of what is queued on a GPU's stream (private to engine/infer, where nvcc is).
#pragma once
#include <cuda_runtime.h>

#include <functional>

#include "engine/device/cuda/device.h"

namespace vitrine {

// What `queue` puts on the device's stream, not run. may_overlap: its kernels wait by themselves (after_previous) and
// may start before the one before is done, where the GPU can do that; NCCL's don't wait. The caller destroys it.
cudaGraphExec_t capture_step(cuda::Device& device, bool may_overlap, const std::function<void()>& queue);

}  // namespace vitrine
