// A model of every layer kind with 48 ids, small enough for a step in milliseconds.
#pragma once
#include "engine/train/fresh.h"
#include "engine/train/trainer.h"

namespace vitrine::test {

inline ModelConfig small_model(int n_mtp = 1) {
    ModelConfig c;
    c.vocab_size = 48, c.hidden_size = 32;
    c.n_heads = 2, c.head_dim = 16, c.rope_dim = 8, c.q_lora_rank = 16, c.o_groups = 2, c.o_lora_rank = 8, c.sliding_window = 8;
    c.index_n_heads = 4, c.index_head_dim = 16, c.index_topk = 2;
    c.n_experts = 4, c.n_shared_experts = 1, c.n_experts_per_tok = 2, c.expert_width = 16;
    c.hc_mult = 2, c.hc_sinkhorn_iters = 5, c.hc_eps = 1e-6;
    c.rms_norm_eps = 1e-6, c.routed_scaling_factor = 1.5, c.swiglu_limit = 10;
    c.rope_theta = 1e4, c.compress_rope_theta = 1.6e5, c.max_position = 4096;
    c.bos_id = 36, c.eos_id = 37;
    c.n_mtp_layers = n_mtp;
    c.layers = {{0, true}, {4, false}, {8, false}};
    return c;
}

inline TrainConfig small_training() {
    TrainConfig c;
    c.batch = 2, c.sequence_length = 32, c.steps = 40, c.lr = 3e-3, c.warmup_steps = 5;
    c.checkpoint_every = 10, c.seed = 3;
    return c;
}

inline std::unique_ptr<Trainer> small_trainer(const TrainConfig& c, int n_threads = 1) {
    const ModelConfig m = small_model();
    return std::make_unique<Trainer>(m, fresh_weights(m, c), c, n_threads);
}

// All weights and moments as bytes.
inline std::vector<std::byte> bits_of(Trainer& t) {
    std::vector<std::byte> all;
    for (const auto& a : t.state().arrays) {
        const auto* bytes = static_cast<const std::byte*>(a.data);
        all.insert(all.end(), bytes, bytes + a.bytes);
    }
    return all;
}

}  // namespace vitrine::test
