// Named beginnings of runs.
#include "engine/train/presets.h"

#include "engine/model/init.h"

namespace vitrine {
namespace {

ModelConfig small(int hidden, int heads, int head_dim, int experts, int width, std::vector<int> ratios) {
    ModelConfig c;
    c.vocab_size = 48, c.hidden_size = hidden;
    c.n_heads = heads, c.head_dim = head_dim, c.rope_dim = head_dim / 2, c.q_lora_rank = hidden / 2;
    c.o_groups = 2, c.o_lora_rank = hidden / 4, c.sliding_window = 16;
    c.index_n_heads = 4, c.index_head_dim = 16, c.index_topk = 4;
    c.n_experts = experts, c.n_shared_experts = 1, c.n_experts_per_tok = 2, c.expert_width = width;
    c.hc_mult = 4, c.hc_sinkhorn_iters = 20, c.hc_eps = 1e-6;
    c.rms_norm_eps = 1e-6, c.routed_scaling_factor = 1.5, c.swiglu_limit = 10;
    c.rope_theta = 1e4, c.compress_rope_theta = 1.6e5, c.max_position = 4096;
    c.bos_id = 36, c.eos_id = 37;
    for (int r : ratios) c.layers.push_back({r, false});
    return c;
}

TrainConfig recipe(int64_t batch, int64_t length, int64_t steps, double lr) {
    TrainConfig t;
    t.batch = batch, t.sequence_length = length, t.steps = steps, t.lr = lr, t.warmup_steps = 20;
    t.checkpoint_every = steps / 4, t.mtp_weight = t.mtp_weight_in_decay = 0;
    return t;
}

// For measurements: random tokens, so that the size of the work is all that matters.
TrainConfig measured(int64_t batch) {
    TrainConfig t = recipe(batch, 1024, 100, 1e-4);
    t.data = "random", t.products = ProductInputs::bf16, t.init_embedding = 1;
    return t;
}

// A beginning at length 256; longer stages follow from its checkpoints (experiments/nano).
TrainConfig nano_recipe() {
    TrainConfig t = recipe(64, 256, 2000, 3e-3);
    t.data = "curriculum";  // the program fills in the tokenizer that ships
    t.optimizer = OptimizerKind::muon, t.schedule = ScheduleKind::wsd, t.warmup_steps = 300, t.decay_steps = 500;
    t.min_lr_ratio = 0.05, t.init_identity = 4, t.init_std = 0.02;
    t.mtp_weight = 0.3, t.mtp_weight_in_decay = 0.1, t.balance = BalanceKind::bias_and_sequence, t.balance_weight = 1e-4;
    t.z_weight = 1e-4;
    return t;
}

}  // namespace

const std::vector<TrainPreset>& train_presets() {
    static const std::vector<TrainPreset> all = {
        {"mix3-t1", "mix3, 4 layers of every kind, width 64, 8 experts", small(64, 4, 16, 8, 64, {0, 4, 8, 4}),
         recipe(16, 64, 200, 1e-2)},
        {"mix3-2m", "mix3, 6 layers, width 128, 16 narrow experts: 2 M parameters",
         small(128, 4, 32, 16, 40, {0, 0, 4, 8, 4, 8}), recipe(32, 128, 1000, 5e-3)},
        {"mix3-t2", "mix3, 6 layers, width 128, 16 experts", small(128, 4, 32, 16, 128, {0, 0, 4, 8, 4, 8}),
         recipe(32, 128, 1000, 5e-3)},
        {"gpu-small", "the small model of the GPU measurements, random tokens", preset_config("gpu-small"), measured(32)},
        {"gpu-large", "the large model of the GPU measurements, random tokens", preset_config("gpu-large"), measured(2)},
        {"nano10", "the curriculum, 10 M parameters: a pilot of the shipped model", preset_config("nano10"), nano_recipe()},
        {"nano", "the curriculum, 32 M parameters: the shipped model", preset_config("nano"), nano_recipe()},
    };
    return all;
}

const TrainPreset& train_preset(const std::string& name) {
    std::string list;
    std::vector<std::string> names;
    for (const TrainPreset& p : train_presets()) {
        if (name == p.name) return p;
        names.emplace_back(p.name);
        list += (list.empty() ? "" : ", ") + names.back();
    }
    const std::string near = nearest_name(name, names);
    throw_if_any({{"", "preset", name, "expected one of " + list + (near.empty() ? "" : "; did you mean " + near + "?"), ""}});
    return train_presets()[0];
}

}  // namespace vitrine
