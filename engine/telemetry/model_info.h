// What the views and `inspect` may know of a loaded model: a plain, immutable description.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/config/numerics.h"
#include "engine/base/config/sampling.h"

namespace vitrine {

struct TensorInfo {
    std::string name, dtype, shape;  // "layers.0.attn.wq_a.weight", "BF16", "[128, 256]"
    uint64_t bytes = 0;
    int64_t n_params = 0;            // 0: block scales, or a tensor that the model does not use
    bool has_real_values() const { return n_params > 0 && dtype != "I64" && dtype != "I32"; }
};

struct TensorHistogram {             // made on demand, block scales applied
    std::string name;
    double min = 0, max = 0, mean = 0, rms = 0;
    int64_t n_nonfinite = 0;
    std::vector<uint32_t> counts;    // equal bins over [min, max]
};

struct ModelInfo {
    std::string folder, name;        // name: the folder's last component
    ModelConfig config;
    Numerics numerics = Numerics::exact;
    int n_threads = 1;
    std::string kernels, device = "CPU";  // it runs on: "CPU", "cuda:0 (NVIDIA H200)"
    int gpu = kCpu;                       // the same as a number
    bool is_gpu_lost = false;             // it failed in the middle of the work: nothing runs until another device is chosen
    std::vector<std::string> gpus;        // names of those that there are, by number
    std::vector<TensorInfo> tensors;
    std::vector<std::string> warnings;
    int64_t n_params = 0, n_active_params = 0;
    uint64_t weight_bytes = 0;
    double load_ms = 0;
    bool has_tokenizer = false;
    Sampling sampling;                    // what generation_config.json asks for
    std::vector<std::string> vocabulary;  // by id, as text to draw (display_text); "" where there is no token
    std::string effort_release;      // which release's effort table the modes follow, e.g. "chat.json" or "preview"
    std::vector<std::vector<float>> router_bias;  // [L][E]; empty for hash-routed layers
};

}  // namespace vitrine
