// Which GPUs there are, in builds with and without CUDA.
#include "engine/device/cuda/device.h"

namespace vitrine::cuda {

Gpus find_gpus();

Gpus gpus() {
    if constexpr (kHasCuda) return find_gpus();
    return {{}, "this build has no CUDA: nvcc 12.0 or newer was not found when it was configured"};
}

}  // namespace vitrine::cuda
