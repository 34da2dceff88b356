// Names of DeepSeek-V4 tensors: tables from transformers' spellings to the official ones.
#include "engine/weights/names_v4.h"

#include <iterator>
#include <span>

namespace vitrine {
namespace {

struct Rename {
    std::string_view from, to;
};

// Whole names behind an optional "model.".
constexpr Rename kTop[] = {
    {"embed_tokens.weight", "embed.weight"}, {"lm_head.weight", "head.weight"},     {"hc_head.hc_fn", "hc_head_fn"},
    {"hc_head.hc_base", "hc_head_base"},     {"hc_head.hc_scale", "hc_head_scale"}, {"hc_head.fn", "hc_head_fn"},
    {"hc_head.base", "hc_head_base"},        {"hc_head.scale", "hc_head_scale"},
};

// Prefixes of what follows "layers.N." or "mtp.K.": the first that fits is replaced, then the next table looks at the
// rest.
constexpr Rename kBlock[] = {
    {"self_attn.", "attn."},
    {"mlp.", "ffn."},
    {"input_layernorm.", "attn_norm."},
    {"post_attention_layernorm.", "ffn_norm."},
    {"attn_hc.", "hc_attn_"},
    {"ffn_hc.", "hc_ffn_"},
    {"mlp_hc.", "hc_ffn_"},
    {"hc_head.hc_", "hc_head_"},
    {"hc_head.", "hc_head_"},
};
constexpr Rename kAttention[] = {
    {"q_a_proj.", "wq_a."}, {"q_a_norm.", "q_norm."}, {"q_b_proj.", "wq_b."}, {"kv_proj.", "wkv."},
    {"norm.", "kv_norm."},  {"o_a_proj.", "wo_a."},   {"o_b_proj.", "wo_b."}, {"sinks", "attn_sink"},
};
constexpr Rename kCompressor[] = {
    {"kv_proj.", "wkv."},
    {"gate_proj.", "wgate."},
    {"kv_norm.", "norm."},
    {"position_bias", "ape"},
};
// In transformers the indexer lies inside the compressor and holds its own compressor's tensors directly.
constexpr Rename kIndexer[] = {
    {"q_b_proj.", "wq_b."},           {"scorer.weights_proj.", "weights_proj."},
    {"kv_proj.", "compressor.wkv."},  {"gate_proj.", "compressor.wgate."},
    {"kv_norm.", "compressor.norm."}, {"position_bias", "compressor.ape"},
};
constexpr Rename kFeedForward[] = {
    {"gate.e_score_correction_bias", "gate.bias"},
    {"experts.gate_up_proj", "experts.gate_up"},
    {"experts.down_proj", "experts.down"},
};
constexpr Rename kExpert[] = {{"gate_proj.", "w1."}, {"down_proj.", "w2."}, {"up_proj.", "w3."}};

bool take(std::string_view& s, std::string_view prefix) {
    if (!s.starts_with(prefix)) return false;
    s.remove_prefix(prefix.size());
    return true;
}

std::string renamed(std::string_view s, std::span<const Rename> table) {
    for (const Rename& r : table)
        if (take(s, r.from)) return std::string(r.to) + std::string(s);
    return std::string(s);
}

// Takes "N." off the front; false when there is no number.
bool take_number(std::string_view& s, std::string& number) {
    size_t n = 0;
    while (n < s.size() && s[n] >= '0' && s[n] <= '9') ++n;
    if (n == 0 || n > 6 || n >= s.size() || s[n] != '.') return false;
    number = std::string(s.substr(0, n + 1));
    s.remove_prefix(n + 1);
    return true;
}

std::string attention(std::string_view rest) {
    if (take(rest, "compressor.indexer.") || take(rest, "indexer.")) {
        if (take(rest, "compressor.")) return "indexer.compressor." + renamed(rest, kCompressor);
        return "indexer." + renamed(rest, kIndexer);
    }
    if (take(rest, "compressor.")) return "compressor." + renamed(rest, kCompressor);
    return renamed(rest, kAttention);
}

std::string feed_forward(std::string_view rest) {
    if (take(rest, "shared_experts.")) return "shared_experts." + renamed(rest, kExpert);
    std::string_view expert = rest;
    std::string number;
    if (take(expert, "experts.") && take_number(expert, number)) return "experts." + number + renamed(expert, kExpert);
    return renamed(rest, kFeedForward);
}

std::string block(std::string_view rest) {
    const std::string first = renamed(rest, kBlock);
    std::string_view s = first;
    if (take(s, "attn.")) return "attn." + attention(s);
    if (take(s, "ffn.")) return "ffn." + feed_forward(s);
    return first;
}

}  // namespace

CanonicalName canonical_name(std::string_view s) {
    take(s, "model.");
    std::string prefix, number;
    std::string_view rest = s;
    for (std::string_view p : {"layers.", "mtp."})
        if (take(rest, p) && take_number(rest, number)) prefix = std::string(p) + number;
    if (prefix.empty()) return {renamed(s, kTop), false};
    CanonicalName c{prefix + block(rest), false};
    c.is_redundant = prefix.starts_with("mtp.") && (rest == "emb.tok_emb.weight" || rest == "head.weight" ||
                                                    rest == "embed_tokens.weight" || rest == "shared_head.head.weight");
    constexpr std::string_view kOldScale = ".weight_scale_inv";
    if (c.name.ends_with(kOldScale)) c.name.replace(c.name.size() - kOldScale.size(), kOldScale.size(), ".scale");
    return c;
}

}  // namespace vitrine
