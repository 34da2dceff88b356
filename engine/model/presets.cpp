// The named shapes of `vitrine init`.
#include "engine/base/error.h"
#include "engine/model/init.h"

namespace vitrine {
namespace {

ModelConfig base(int n_layers, int n_hash) {  // what all published V4 models share, and the alternating schedule
    ModelConfig c;
    c.o_lora_rank = 1024, c.sliding_window = 128;
    c.n_shared_experts = 1;
    c.hc_mult = 4, c.hc_sinkhorn_iters = 20;
    c.hc_eps = 1e-6, c.rms_norm_eps = 1e-6, c.routed_scaling_factor = 1.5, c.swiglu_limit = 10;
    c.rope_theta = 1e4, c.compress_rope_theta = 1.6e5;
    c.has_yarn = true;
    c.yarn = {16, 32, 1, 65536};
    c.max_position = 1 << 20;
    c.bos_id = 0, c.eos_id = 1;
    for (int i = 0; i < n_layers; ++i) c.layers.push_back({i < 2 ? 0 : i % 2 ? 128 : 4, i < n_hash});
    return c;
}

void attention(ModelConfig& c, int hidden, int heads, int head_dim, int rope, int q_lora, int o_groups, int o_lora) {
    c.hidden_size = hidden, c.n_heads = heads, c.head_dim = head_dim, c.rope_dim = rope;
    c.q_lora_rank = q_lora, c.o_groups = o_groups, c.o_lora_rank = o_lora;
}
void indexer(ModelConfig& c, int heads, int dim, int topk) {
    c.index_n_heads = heads, c.index_head_dim = dim, c.index_topk = topk;
}
void experts(ModelConfig& c, int n, int per_token, int width, int vocab) {
    c.n_experts = n, c.n_experts_per_tok = per_token, c.expert_width = width, c.vocab_size = vocab;
}

ModelConfig tiny() {  // as tests/reference/gen_dsv4.py: what other implementations are compared on
    ModelConfig c = base(8, 3);
    attention(c, 256, 8, 128, 32, 128, 2, 64);
    indexer(c, 16, 64, 16);
    experts(c, 32, 4, 128, 512);
    c.swiglu_limit = 1.5;
    c.yarn.original_max_position = 1024;
    c.max_position = 16384;
    return c;
}
ModelConfig
mid() {  // half a billion parameters with the real head, rotary and indexer sizes: what speed is measured on
    ModelConfig c = base(8, 3);
    attention(c, 1024, 16, 512, 64, 512, 4, 256);
    indexer(c, 16, 128, 512);
    experts(c, 64, 6, 256, 8192);
    return c;
}
ModelConfig gpu_small() {
    ModelConfig c = base(8, 2);
    attention(c, 384, 6, 64, 16, 192, 2, 96);
    indexer(c, 4, 32, 64);
    experts(c, 32, 4, 192, 4096);
    return c;
}
ModelConfig gpu_large() {
    ModelConfig c = base(12, 2);
    attention(c, 2048, 16, 512, 64, 1024, 4, 512);
    indexer(c, 16, 128, 512);
    experts(c, 64, 6, 1024, 32768);
    return c;
}
ModelConfig flash_slice() {  // the first four layers of Flash: window, window, CSA, HCA
    ModelConfig c = base(4, 3);
    attention(c, 4096, 64, 512, 64, 1024, 8, 1024);
    indexer(c, 64, 128, 512);
    experts(c, 8, 6, 2048, 129280);
    c.n_mtp_layers = 1;
    return c;
}
ModelConfig pro_slice() {  // the first four layers of Pro: HCA, HCA, CSA, HCA
    ModelConfig c = base(4, 3);
    attention(c, 7168, 128, 512, 64, 1536, 16, 1024);
    indexer(c, 64, 128, 1024);
    experts(c, 8, 6, 3072, 129280);
    c.layers[0].ratio = c.layers[1].ratio = 128;
    c.routed_scaling_factor = 2.5;
    c.n_mtp_layers = 1;
    return c;
}

// What the shipped model is: two window layers, then CSA and HCA in turn; sizes for a text of some thousand tokens.
ModelConfig nano() {
    ModelConfig c = base(10, 2);
    attention(c, 256, 8, 64, 16, 128, 2, 128);
    indexer(c, 16, 64, 32);
    experts(c, 24, 4, 128, 2048);
    c.sliding_window = 64;
    for (LayerConfig& l : c.layers)
        if (l.kind() == LayerKind::hca) l.ratio = 16;
    c.has_yarn = false, c.yarn = {};
    c.max_position = 16384;
    c.n_mtp_layers = 1;
    return c;
}
ModelConfig nano10() {
    ModelConfig c = nano();
    c.layers.resize(8);
    attention(c, 192, 6, 48, 12, 96, 2, 96);
    indexer(c, 4, 32, 24);
    experts(c, 16, 4, 96, 2048);
    c.sliding_window = 48;
    return c;
}

struct Entry {
    const char* name;
    ModelConfig (*make)();
};
constexpr Entry kEntries[] = {{"tiny", tiny},
                              {"mid", mid},
                              {"gpu-small", gpu_small},
                              {"gpu-large", gpu_large},
                              {"flash-slice", flash_slice},
                              {"pro-slice", pro_slice},
                              {"nano", nano},
                              {"nano10", nano10}};

[[noreturn]] void unknown(const char* what, const std::string& name, const std::vector<std::string>& names) {
    std::string list;
    for (const auto& n : names) list += (list.empty() ? "" : ", ") + n;
    const std::string near = nearest_name(name, names);
    throw_if_any(
        {{"", what, name, "expected one of " + list + (near.empty() ? "" : "; did you mean " + near + "?"), ""}});
    throw Error(ErrorKind::internal, "unreachable");
}

}  // namespace

const std::vector<Preset>& presets() {
    static const std::vector<Preset> all = {
        {"tiny", "30 M parameters, every layer kind: for comparisons", WeightsFormat::f32},
        {"mid", "509 M parameters, real head sizes: for speed on a CPU", WeightsFormat::bf16},
        {"gpu-small", "the small model of the GPU measurements", WeightsFormat::f32},
        {"gpu-large", "the large model of the GPU measurements", WeightsFormat::bf16},
        {"flash-slice", "Flash's widths, 4 layers and 8 experts", WeightsFormat::official},
        {"pro-slice", "Pro's widths, 4 layers and 8 experts", WeightsFormat::official},
        {"nano", "32 M parameters: the shape of the shipped model", WeightsFormat::bf16},
        {"nano10", "10 M parameters: its smaller sister", WeightsFormat::bf16},
    };
    return all;
}

ModelConfig preset_config(const std::string& name) {
    std::vector<std::string> names;
    for (const Entry& e : kEntries) {
        if (name == e.name) return e.make();
        names.emplace_back(e.name);
    }
    unknown("preset", name, names);
}

WeightsFormat preset_format(const std::string& name) {
    for (const Preset& p : presets())
        if (name == p.name) return p.format;
    preset_config(name);  // throws
    return WeightsFormat::f32;
}

namespace {
constexpr const char* kFormats[] = {"f32", "bf16", "fp8", "official"};
}

const char* weights_format_name(WeightsFormat f) {
    return kFormats[static_cast<int>(f)];
}

WeightsFormat weights_format_from_name(const std::string& name) {
    for (int i = 0; i < 4; ++i)
        if (name == kFormats[i]) return static_cast<WeightsFormat>(i);
    unknown("weights", name, {std::begin(kFormats), std::end(kFormats)});
}

}  // namespace vitrine
