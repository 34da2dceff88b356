// The accounting of v4-spec 4.9 and 4.10.
#include "experiments/x08_cost/cost_model.h"

#include <algorithm>

#include "engine/base/error.h"
#include "engine/telemetry/cache_report.h"

namespace vitrine::lab {
namespace {

ModelConfig published(int hidden, int heads, int q_lora, int groups, int topk, int n_experts, int width) {
    ModelConfig c;
    c.vocab_size = 129280, c.hidden_size = hidden;
    c.n_heads = heads, c.head_dim = 512, c.rope_dim = 64, c.q_lora_rank = q_lora, c.o_groups = groups,
    c.o_lora_rank = 1024;
    c.sliding_window = 128, c.index_n_heads = 64, c.index_head_dim = 128, c.index_topk = topk;
    c.n_experts = n_experts, c.n_shared_experts = 1, c.n_experts_per_tok = 6, c.expert_width = width;
    c.hc_mult = 4, c.hc_sinkhorn_iters = 20;
    return c;
}

constexpr double kMac = 2;  // operations per multiply-add

}  // namespace

ModelConfig flash_config() {
    ModelConfig c = published(4096, 64, 1024, 8, 512, 256, 2048);
    for (int l = 0; l < 43; ++l) c.layers.push_back({l < 2 ? 0 : l % 2 ? 128 : 4, l < 3});
    return c;
}

ModelConfig pro_config() {
    ModelConfig c = published(7168, 128, 1536, 16, 1024, 384, 3072);
    for (int l = 0; l < 61; ++l) c.layers.push_back({l < 2 || l % 2 ? 128 : 4, l < 3});
    return c;
}

TokenCost v4_cost(const ModelConfig& c, int64_t n) {
    const double d = c.hidden_size, heads_c = double(c.n_heads) * c.head_dim, streams = c.hc_mult;
    const double attention = d * c.q_lora_rank + c.q_lora_rank * heads_c + d * c.head_dim + heads_c * c.o_lora_rank +
                             double(c.o_groups) * c.o_lora_rank * d;
    const double experts = 3.0 * d * (double(c.n_experts_per_tok) * c.expert_width + c.shared_width());
    const double index_width = double(c.index_n_heads) * c.index_head_dim;
    TokenCost sum;
    for (const LayerConfig& layer : c.layers) {
        if (layer.attention != AttentionOverride::none)
            throw_if_any({{"", "attention", "",
                           "expected V4's own attention in every layer: the calculation knows no other", ""}});
        const double n_window = double(std::min<int64_t>(n, c.sliding_window));
        const double n_entries = layer.ratio ? double(n / layer.ratio) : 0;
        const bool is_csa = layer.kind() == LayerKind::csa;
        sum.linear += attention + experts;
        sum.fp32 += d * c.n_experts + 2 * (2 * streams + streams * streams) * streams * d;
        sum.core += (n_window + (is_csa ? std::min(n_entries, double(c.index_topk)) : n_entries)) * 2 * heads_c;
        if (layer.ratio) sum.fp32 += 2 * (is_csa ? 2 : 1) * double(c.head_dim) * d;
        if (!is_csa) continue;
        sum.linear += c.q_lora_rank * index_width + d * c.index_n_heads;
        sum.fp32 += 2 * 2 * double(c.index_head_dim) * d;
        sum.index += index_width * n_entries;
    }
    sum.fp32 += streams * streams * d;  // the final collapse
    sum.head = d * c.vocab_size;
    return {kMac * sum.linear, kMac * sum.fp32, kMac * sum.head, kMac * sum.core, kMac * sum.index};
}

TokenCost v32_cost(int64_t n) {
    // Shapes of V3 (arXiv 2412.19437) with the indexer of V3.2 (arXiv 2512.02556).
    constexpr double d = 7168, heads = 128, q_lora = 1536, kv_lora = 512, nope = 128, rope = 64, vocabulary = 129280;
    constexpr double index_heads = 64, index_dim = 128, top = 2048, n_dense = 3, n_moe = kV32Layers - n_dense;
    const double attention = d * q_lora + q_lora * heads * (nope + rope) + d * (kv_lora + rope) +
                             kv_lora * heads * 2 * nope + heads * nope * d;
    const double indexer = q_lora * index_heads * index_dim + d * index_dim + d * index_heads;
    const double ffn = n_dense * 3 * d * 18432 + n_moe * (9 * 3 * d * 2048 + d * 256);  // 8 + 1 experts and the router
    TokenCost c;
    c.linear = kMac * (kV32Layers * (attention + indexer) + ffn);
    c.head = kMac * d * vocabulary;
    c.core = kMac * kV32Layers * heads * std::min(double(n), top) * (2 * kv_lora + rope);
    c.index = kMac * kV32Layers * index_heads * index_dim * double(n);
    return c;
}

double prefill_total(const std::function<double(const ModelConfig*, int64_t n)>& token, const ModelConfig* c, int64_t n) {
    constexpr int64_t kStep = 128;
    double sum = 0;
    for (int64_t t = kStep / 2; t < n; t += kStep) sum += token(c, t) * double(std::min(kStep, n - t + kStep / 2));
    return sum;
}

double v4_cache(const ModelConfig& c, int64_t n, bool fp8_keys) {
    const auto kinds = projected_bytes(c, n);
    double sum = 0;
    for (const CacheKind k : {CacheKind::window, CacheKind::csa_entries, CacheKind::index_keys, CacheKind::hca_entries})
        sum += double(kinds[static_cast<int>(k)]);
    if (!fp8_keys) return sum;
    const double keys = double(kinds[static_cast<int>(CacheKind::index_keys)]);
    return sum + keys * (double(c.index_head_dim + 4) / double(index_key_row_bytes(c.index_head_dim, true)) - 1);
}

double v32_cache(int64_t n) {
    return double(kV32Layers) * double(kV32BytesPerTokenLayer) * double(n);
}
double gqa8_cache(int n_layers, int64_t n) {
    return double(n_layers) * double(kGqa8BytesPerTokenLayer) * double(n);
}

}  // namespace vitrine::lab
