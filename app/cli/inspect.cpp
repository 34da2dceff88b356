// vitrine inspect: what is in a checkpoint folder.
#include <cstdio>
#include <map>

#include "app/cli/common.h"
#include "engine/base/json.h"
#include "engine/base/log.h"
#include "engine/engine.h"
#include "engine/model/config.h"
#include "engine/model/variants.h"

namespace vitrine::cli {
namespace {

struct Group {  // tensors whose names differ in numbers only
    std::string dtype, shape;
    int n = 0;
    uint64_t bytes = 0;
};

// "layers.3.ffn.experts.12.w1.weight" to "layers.*.ffn.experts.*.w1.weight"
std::string pattern_of(const std::string& name) {
    std::string s;
    for (size_t i = 0; i < name.size();) {
        size_t j = i;
        while (j < name.size() && name[j] >= '0' && name[j] <= '9') ++j;
        const bool is_number = j > i && (i == 0 || name[i - 1] == '.') && (j == name.size() || name[j] == '.');
        if (is_number)
            s += '*', i = j;
        else
            s += name[i++];
    }
    return s;
}

std::string schedule(const ModelConfig& c) {
    std::string s;
    for (const LayerConfig& l : c.layers) {
        s += layer_glyph(l.kind());
        if (l.is_hash_routed) s += '#';
    }
    return s;
}

void print_config(const ModelInfo& info) {
    const ModelConfig& c = info.config;
    std::printf("%s (%s)\n", info.name.c_str(), info.folder.c_str());
    std::printf("  parameters     %.3f M, %.3f M active per token; %s of weights\n", info.n_params / 1e6,
                info.n_active_params / 1e6, human_bytes(static_cast<double>(info.weight_bytes)).c_str());
    std::printf("  layers         %d: %s (S sliding, C CSA, H HCA, # hash-routed)\n", c.n_layers(),
                schedule(c).c_str());
    std::printf("  ratios        ");
    for (const LayerConfig& l : c.layers) std::printf(" %d", l.ratio);
    std::printf("\n  width          %d, %d streams, vocabulary %d, context %lld\n", c.hidden_size, c.hc_mult,
                c.vocab_size, static_cast<long long>(c.max_position));
    std::printf("  attention      %d heads of %d (%d rotary), query rank %d, output %d groups of rank %d, window %d\n",
                c.n_heads, c.head_dim, c.rope_dim, c.q_lora_rank, c.o_groups, c.o_lora_rank, c.sliding_window);
    std::printf("  indexer        %d heads of %d, top %d\n", c.index_n_heads, c.index_head_dim, c.index_topk);
    std::printf("  experts        %d of width %d, %d per token, %d shared, scale %g\n", c.n_experts, c.expert_width,
                c.n_experts_per_tok, c.n_shared_experts, c.routed_scaling_factor);
    if (c.has_yarn)
        std::printf("  YaRN           factor %g, beta %g and %g, original context %lld, on compressed layers\n",
                    c.yarn.factor, c.yarn.beta_fast, c.yarn.beta_slow,
                    static_cast<long long>(c.yarn.original_max_position));
    if (const Json variants = variants_to_json(c); variants.size() > 0)
        std::printf("  not V4         %s\n", variants.dump().c_str());
    if (c.n_mtp_layers) std::printf("  MTP            %d layer(s); --draft uses the first\n", c.n_mtp_layers);
    const std::string tokenizer =
        info.has_tokenizer ? "tokenizer.json; effort prefixes of " + info.effort_release : "none: chat is off";
    std::printf("  tokenizer      %s\n", tokenizer.c_str());
}

void print_tensors(const ModelInfo& info, bool is_each) {
    if (is_each) {
        for (const TensorInfo& t : info.tensors)
            std::printf("  %-12s %-20s %12llu  %s\n", t.dtype.c_str(), t.shape.c_str(),
                        static_cast<unsigned long long>(t.bytes), escaped(t.name, 200).c_str());
        return;
    }
    std::map<std::string, Group> groups;
    for (const TensorInfo& t : info.tensors) {
        Group& g = groups[pattern_of(t.name)];
        if (g.n && g.dtype != t.dtype)
            g.dtype = "mixed";
        else
            g.dtype = t.dtype;
        if (g.n && g.shape != t.shape)
            g.shape = "various";
        else
            g.shape = t.shape;
        ++g.n;
        g.bytes += t.bytes;
    }
    std::printf("tensors (%zu; --tensors lists each)\n", info.tensors.size());
    for (const auto& [name, g] : groups)
        std::printf("  %5d  %-12s %-20s %10s  %s\n", g.n, g.dtype.c_str(), g.shape.c_str(),
                    human_bytes(static_cast<double>(g.bytes)).c_str(), escaped(name, 200).c_str());
}

// Every value of every tensor in use, widened, its scale applied: NaN and infinities make every answer suspect. Tables of
// integers have none.
int64_t count_nonfinite(const Engine& engine, std::vector<std::string>& lines) {
    int64_t n = 0;
    for (const TensorInfo& t : engine.info().tensors) {
        if (!t.has_real_values()) continue;
        const TensorHistogram h = engine.histogram(t.name);
        if (h.n_nonfinite == 0) continue;
        n += h.n_nonfinite;
        lines.push_back(escaped(t.name, 200) + ": " + std::to_string(h.n_nonfinite) + " values are NaN or infinite");
    }
    return n;
}

std::string as_json(const ModelInfo& info, int64_t n_nonfinite) {
    Json j = Json::object();
    j.set("folder", info.folder);
    j.set("config", Json::parse(config_to_json(info.config), "config"));
    j.set("n_params", info.n_params);
    j.set("n_active_params", info.n_active_params);
    j.set("weight_bytes", static_cast<int64_t>(info.weight_bytes));
    j.set("has_tokenizer", info.has_tokenizer);
    j.set("effort_release", info.effort_release);
    j.set("n_nonfinite", n_nonfinite);
    Json warnings = Json::array(), tensors = Json::array();
    for (const std::string& w : info.warnings) warnings.push(w);
    for (const TensorInfo& t : info.tensors) {
        Json x = Json::object();
        x.set("name", t.name);
        x.set("dtype", t.dtype);
        x.set("shape", t.shape);
        x.set("bytes", static_cast<int64_t>(t.bytes));
        tensors.push(std::move(x));
    }
    j.set("warnings", std::move(warnings));
    j.set("tensors", std::move(tensors));
    return j.dump(1);
}

}  // namespace

int run_inspect(const Args& args) {
    std::string folder;
    bool is_each = false, is_json = false, is_quick = false;
    Options o("inspect", "DIR [OPTIONS]", "Reads a checkpoint folder, checks it whole and prints what is in it.");
    o.positional("DIR", &folder, "the checkpoint folder")
        .flag("--tensors", &is_each, "a line for each tensor instead of one per kind")
        .flag("--quick", &is_quick, "leave out the search for NaN and infinities, which reads every weight")
        .flag("--json", &is_json, "one JSON object");
    if (!o.parse(args)) return 0;
    const auto engine = Engine::load(folder, {.needs_text = false});
    std::vector<std::string> lines;
    const int64_t n_nonfinite = is_quick ? 0 : count_nonfinite(*engine, lines);
    if (is_json) {
        std::printf("%s\n", as_json(engine->info(), n_nonfinite).c_str());
        return 0;
    }
    print_config(engine->info());
    print_tensors(engine->info(), is_each);
    for (const std::string& w : engine->info().warnings) std::printf("warning: %s\n", w.c_str());
    for (const std::string& l : lines) std::printf("warning: %s\n", l.c_str());
    std::printf("%s\n", is_quick ? "values were not looked at" : n_nonfinite ? "" : "all values are finite");
    return 0;
}

}  // namespace vitrine::cli
