// Checkpoints with random weights, of named shapes, for tests, measurements and training from nothing; and checkpoints in another
// number format.
#pragma once
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/config/model_config.h"

namespace vitrine {

// f32: everything F32. bf16: matrices and norms BF16, the rest F32. fp8: projections F8_E4M3 with F8_E8M0 scales,
// routed experts with F32 scales (as Base checkpoints). official: projections FP8, routed experts FP4 (v4-spec 5.5).
enum class WeightsFormat { f32, bf16, fp8, official };
const char* weights_format_name(WeightsFormat f);
WeightsFormat weights_format_from_name(const std::string& name);  // Error(bad_input) listing the names

struct Preset {
    const char* name;
    const char* what;
    WeightsFormat format;  // when none is asked for
};
const std::vector<Preset>& presets();
ModelConfig preset_config(const std::string& name);  // Error(bad_input) listing the names
WeightsFormat preset_format(const std::string& name);

struct InitOptions {
    std::function<void(uint64_t done_bytes, uint64_t total_bytes)> report;
    std::stop_token stop;
    uint64_t shard_bytes = 2'000'000'000;  // of the tensors in one file, at most; one tensor may be larger
};

// Writes model*.safetensors (shards of at most shard_bytes with their index), tokenizer.json (256 bytes and the control tokens
// of v4-spec 8.1, V4's pre-tokenizer), chat.json, generation_config.json and, last, config.json. A tensor's values
// depend on (seed, its official name, its shape) only, not on the format: f32 and bf16 checkpoints hold the same
// numbers, packed ones are rounded from them. Gains keep activations near 1. Error(bad_input) when out_dir holds a
// model already, Error(io) when the disk is too small or fails; what was written is removed then. Needs memory for one
// tensor.
void init_checkpoint(const std::string& preset, uint64_t seed, WeightsFormat format, const std::string& out_dir,
                     const InitOptions& options = {});
void init_checkpoint(const ModelConfig& config, uint64_t seed, WeightsFormat format, const std::string& out_dir,
                     const InitOptions& options = {});

// The weights of the model in `folder` in another format, with the texts that belong to it; same rules for out_dir. What is
// rounded is rounded from the widened values.
void repack_checkpoint(const std::string& folder, WeightsFormat format, const std::string& out_dir,
                       const InitOptions& options = {});

// tokenizer.json of the random-weight checkpoints; ids 0 to 271.
std::string byte_tokenizer_json();
// The same with merges, in order of rank: the bytes of both sides, each a byte or made by an earlier merge. Tokens are numbered
// from 272 as they are made. Digits stand alone, where V4 takes up to three together.
std::string bpe_tokenizer_json(const std::vector<std::pair<std::string, std::string>>& merges);

}  // namespace vitrine
