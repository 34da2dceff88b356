// The shape of a checkpoint small enough for whole experiments on a model that never ends an answer.
#pragma once
#include "engine/model/init.h"

namespace vitrine::test {

inline ModelConfig small_model(std::vector<LayerConfig> layers) {
    ModelConfig c = preset_config("tiny");
    c.hidden_size = 64, c.n_heads = 2, c.head_dim = 32, c.rope_dim = 16, c.q_lora_rank = 32, c.o_groups = 1, c.o_lora_rank = 32;
    c.index_n_heads = 2, c.index_head_dim = 32, c.index_topk = 8;
    c.n_experts = 8, c.n_experts_per_tok = 2, c.expert_width = 32, c.n_mtp_layers = 0;
    c.layers = std::move(layers);
    return c;
}

}  // namespace vitrine::test
