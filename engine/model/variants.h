// Departures from V4: the object "vitrine" of config.json, read, checked and written.
#pragma once
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/error.h"

namespace vitrine {

class Json;

// {"attention": ["none" | "full" | "mla" | "gqa", one per layer], "residual": ..., "router": ..., "router_top_p": ..., "q_norm":
//  ..., "kv_norm": ..., "n_kv_heads": ..., "kv_lora_rank": ..., "attention_softcap": ...}; what is absent is as in V4. Unknown keys
// are errors. Fills c.variants and the layers' attention; what is wrong goes to `issues`.
void read_variants(const Json& vitrine, const std::string& file, ModelConfig& c, std::vector<Issue>& issues);
// The object, without the values that are V4's; an empty one when nothing departs.
Json variants_to_json(const ModelConfig& c);
// What does not fit together, by key "vitrine....".
std::vector<Issue> validate_variants(const ModelConfig& c, const std::string& file);
// Whether token-by-token inference knows it all: full, mla, gqa and soft-capped logits train and evaluate whole sequences only.
std::vector<Issue> validate_session(const ModelConfig& c, const std::string& file);
// What only the CPU has: the plain residual and the top_p router.
std::vector<Issue> validate_gpu(const ModelConfig& c, const std::string& file);

const char* attention_name(AttentionOverride a);

}  // namespace vitrine
