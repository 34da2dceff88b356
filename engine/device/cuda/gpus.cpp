// Which GPUs there are, in builds with and without CUDA.
#include "engine/base/version.h"
#include "engine/device/cuda/device.h"

namespace vitrine::cuda {

Gpus find_gpus();

Gpus gpus() {
    if constexpr (kHasCuda) return find_gpus();
    return {{}, std::string("this program was built without GPU kernels: ") + why_no_gpu_kernels()};
}

}  // namespace vitrine::cuda
