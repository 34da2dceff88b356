// Gradients under the names of the checkpoint's own file, fused expert tensors assembled.
#pragma once
#include <string>
#include <vector>

#include "engine/train/trainer.h"

namespace vitrine {

struct NamedGradient {
    std::string name;             // as in the file
    std::vector<int64_t> shape;
    DType dtype;                  // that of the masters
    std::vector<std::byte> bytes;
};

// Of every weight that a gradient can reach (selection biases and tables have none). The masters' gradients must be filled.
std::vector<NamedGradient> gradients_by_file_name(Trainer& trainer);

// A configuration without anything but next-token cross-entropy: what a checkpoint's gradients are compared with.
TrainConfig plain_loss(TrainDType dtype, const std::string& token_file);

}  // namespace vitrine
