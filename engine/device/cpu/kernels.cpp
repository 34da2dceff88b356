// Picks the kernels for this processor, once.
#include "engine/device/cpu/kernels.h"

namespace vitrine::cpu {

const Kernels& kernels() { return scalar_kernels(); }

}  // namespace vitrine::cpu
