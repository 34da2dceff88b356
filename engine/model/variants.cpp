// Departures from V4 as JSON.
#include "engine/model/variants.h"

#include <algorithm>

#include "engine/base/json.h"

namespace vitrine {
namespace {

template <class E>
struct Name {
    E value;
    const char* name;
};
constexpr Name<AttentionOverride> kAttention[] = {{AttentionOverride::none, "none"},
                                                  {AttentionOverride::full, "full"},
                                                  {AttentionOverride::mla, "mla"},
                                                  {AttentionOverride::gqa, "gqa"}};
constexpr Name<ResidualKind> kResidual[] = {{ResidualKind::mhc, "mhc"},
                                            {ResidualKind::mhc_lite, "mhc_lite"},
                                            {ResidualKind::hc, "hc"},
                                            {ResidualKind::plain, "plain"}};
constexpr Name<RouterKind> kRouter[] = {
    {RouterKind::topk_bias, "topk_bias"}, {RouterKind::topk, "topk"}, {RouterKind::top_p, "top_p"}};

template <class E, size_t N>
const char* name_of(const Name<E> (&table)[N], E value) {
    for (const auto& row : table)
        if (row.value == value) return row.name;
    return table[0].name;
}

class Reader {
  public:
    Reader(const Json& object, const std::string& file, std::vector<Issue>& issues)
        : object_(object), file_(file), issues_(issues) {}

    void wrong(const std::string& key, const Json& v, std::string expected) {
        const bool is_container = v.is_array() || v.is_object();
        issues_.push_back({file_, "vitrine." + key, is_container ? v.type_name() : v.dump(), std::move(expected), v.where()});
    }
    const Json* find(const char* key) {
        known_.push_back(key);
        return object_.find(key);
    }
    template <class E, size_t N>
    void choice(const std::string& key, const Json& v, const Name<E> (&table)[N], E& out) {
        std::string all;
        for (const auto& row : table) {
            if (v == Json(row.name)) return void(out = row.value);
            all += (all.empty() ? "\"" : ", \"") + std::string(row.name) + "\"";
        }
        wrong(key, v, "expected one of " + all);
    }
    template <class E, size_t N>
    void choice(const char* key, const Name<E> (&table)[N], E& out) {
        if (const Json* v = find(key)) choice(key, *v, table, out);
    }
    void flag(const char* key, bool& out) {
        const Json* v = find(key);
        if (v && v->is_bool()) out = v->as_bool();
        else if (v) wrong(key, *v, "expected true or false");
    }
    void integer(const char* key, int64_t lo, int64_t hi, int& out) {
        const Json* v = find(key);
        if (!v) return;
        if (v->type() == Json::Type::integer && v->as_int() >= lo && v->as_int() <= hi) out = static_cast<int>(v->as_int());
        else wrong(key, *v, "expected an integer in [" + std::to_string(lo) + ", " + std::to_string(hi) + "]");
    }
    void share(const char* key, double& out) {
        const Json* v = find(key);
        if (v && v->is_number() && v->as_double() > 0 && v->as_double() <= 1) out = v->as_double();
        else if (v) wrong(key, *v, "expected a number in (0, 1]");
    }
    void at_least_0(const char* key, double& out) {
        const Json* v = find(key);
        if (v && v->is_number() && v->as_double() >= 0 && v->as_double() <= 1e30) out = v->as_double();
        else if (v) wrong(key, *v, "expected a number in [0, 1e30]");
    }
    void unknown() {
        for (const auto& [k, v] : object_.members()) {
            if (std::find(known_.begin(), known_.end(), k) != known_.end()) continue;
            const std::string near = nearest_name(k, known_);
            wrong(k, v, "unknown key" + (near.empty() ? "" : "; did you mean \"" + near + "\"?"));
        }
    }

  private:
    const Json& object_;
    const std::string& file_;
    std::vector<Issue>& issues_;
    std::vector<std::string> known_;
};

}  // namespace

const char* attention_name(AttentionOverride a) { return name_of(kAttention, a); }

void read_variants(const Json& vitrine, const std::string& file, ModelConfig& c, std::vector<Issue>& issues) {
    Reader r(vitrine, file, issues);
    if (!vitrine.is_object()) {
        issues.push_back({file, "vitrine", vitrine.type_name(), "expected an object of departures from V4", vitrine.where()});
        return;
    }
    Variants& v = c.variants;
    r.choice("residual", kResidual, v.residual);
    r.choice("router", kRouter, v.router);
    r.share("router_top_p", v.router_top_p);
    r.flag("q_norm", v.q_norm);
    r.flag("kv_norm", v.kv_norm);
    r.integer("n_kv_heads", 1, 4096, v.n_kv_heads);
    r.integer("kv_lora_rank", 0, 1 << 16, v.kv_lora_rank);
    r.at_least_0("attention_softcap", v.attention_softcap);
    if (const Json* kinds = r.find("attention")) {
        if (!kinds->is_array() || kinds->size() != c.layers.size())
            r.wrong("attention", *kinds, "expected " + std::to_string(c.layers.size()) + " names, one per layer");
        for (size_t i = 0; kinds->is_array() && i < kinds->size() && i < c.layers.size(); ++i)
            r.choice("attention[" + std::to_string(i) + "]", kinds->items()[i], kAttention, c.layers[i].attention);
    }
    r.unknown();
}

Json variants_to_json(const ModelConfig& c) {
    const Variants v4, &v = c.variants;
    Json j = Json::object(), kinds = Json::array();
    bool is_overridden = false;
    for (const LayerConfig& l : c.layers) {
        kinds.push(attention_name(l.attention));
        is_overridden = is_overridden || l.attention != AttentionOverride::none;
    }
    if (is_overridden) j.set("attention", std::move(kinds));
    if (v.residual != v4.residual) j.set("residual", name_of(kResidual, v.residual));
    if (v.router != v4.router) j.set("router", name_of(kRouter, v.router));
    if (v.router_top_p != v4.router_top_p) j.set("router_top_p", v.router_top_p);
    if (v.q_norm != v4.q_norm) j.set("q_norm", v.q_norm);
    if (v.kv_norm != v4.kv_norm) j.set("kv_norm", v.kv_norm);
    if (v.n_kv_heads != v4.n_kv_heads) j.set("n_kv_heads", v.n_kv_heads);
    if (v.kv_lora_rank != v4.kv_lora_rank) j.set("kv_lora_rank", v.kv_lora_rank);
    if (v.attention_softcap != v4.attention_softcap) j.set("attention_softcap", v.attention_softcap);
    return j;
}

std::vector<Issue> validate_variants(const ModelConfig& c, const std::string& file) {
    std::vector<Issue> issues;
    bool uses[4] = {};
    for (size_t i = 0; i < c.layers.size(); ++i) {
        const LayerConfig& l = c.layers[i];
        uses[static_cast<int>(l.attention)] = true;
        if (l.attention != AttentionOverride::none && l.ratio != 0)
            issues.push_back({file, "vitrine.attention[" + std::to_string(i) + "]", attention_name(l.attention),
                              "expected compress_ratios 0 in this layer, not " + std::to_string(l.ratio) +
                                  ": it has no compressed entries", ""});
    }
    const Variants& v = c.variants;
    if (uses[static_cast<int>(AttentionOverride::gqa)] && (v.n_kv_heads < 1 || c.n_heads % v.n_kv_heads))
        issues.push_back({file, "vitrine.n_kv_heads", std::to_string(v.n_kv_heads),
                          "expected a divisor of num_attention_heads = " + std::to_string(c.n_heads), ""});
    if (uses[static_cast<int>(AttentionOverride::mla)] && v.kv_lora_rank < 1)
        issues.push_back({file, "vitrine.kv_lora_rank", std::to_string(v.kv_lora_rank),
                          "expected at least 1, the width of the latent that mla layers keep", ""});
    if (uses[static_cast<int>(AttentionOverride::mla)] && c.rope_dim >= c.head_dim)
        issues.push_back({file, "qk_rope_head_dim", std::to_string(c.rope_dim),
                          "expected less than head_dim = " + std::to_string(c.head_dim) + ": mla splits a head in two parts", ""});
    if (!(v.router_top_p > 0 && v.router_top_p <= 1))
        issues.push_back({file, "vitrine.router_top_p", Json(v.router_top_p).dump(), "expected a number in (0, 1]", ""});
    return issues;
}

std::vector<Issue> validate_session(const ModelConfig& c, const std::string& file) {
    std::vector<Issue> issues;
    for (size_t i = 0; i < c.layers.size(); ++i)
        if (c.layers[i].attention != AttentionOverride::none)
            issues.push_back({file, "vitrine.attention[" + std::to_string(i) + "]", attention_name(c.layers[i].attention),
                              "layer " + std::to_string(i) + " trains and evaluates whole sequences only: a session has no cache "
                              "for this kind; expected \"none\"", ""});
    if (c.variants.attention_softcap != 0)
        issues.push_back({file, "vitrine.attention_softcap", Json(c.variants.attention_softcap).dump(),
                          "trains and evaluates whole sequences only: expected 0", ""});
    return issues;
}

std::vector<Issue> validate_gpu(const ModelConfig& c, const std::string& file) {
    std::vector<Issue> issues;
    if (c.variants.residual == ResidualKind::plain)
        issues.push_back({file, "vitrine.residual", "plain", "runs on the CPU only; expected mhc, mhc_lite or hc on a GPU", ""});
    if (c.variants.router == RouterKind::top_p)
        issues.push_back({file, "vitrine.router", "top_p", "runs on the CPU only; expected topk_bias or topk on a GPU", ""});
    return issues;
}

}  // namespace vitrine
