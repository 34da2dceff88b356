// config.json to ModelConfig: one table of numbers with their ranges, then what is structured, then what must agree.
#include "engine/model/config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "engine/model/residual/residual.h"
#include "engine/model/variants.h"

namespace vitrine {
namespace {

enum class Need { always, with_csa };

struct IntField {
    const char* key;
    int ModelConfig::*member;
    int lo, hi;
    Need need = Need::always;
};
// The upper ends are far above any published model and keep every product of two of them below 2^63.
constexpr IntField kInts[] = {
    {"vocab_size", &ModelConfig::vocab_size, 1, 1 << 22},
    {"hidden_size", &ModelConfig::hidden_size, 1, 1 << 16},
    {"num_attention_heads", &ModelConfig::n_heads, 1, 4096},
    {"head_dim", &ModelConfig::head_dim, 2, 4096},
    {"q_lora_rank", &ModelConfig::q_lora_rank, 1, 1 << 16},
    {"o_groups", &ModelConfig::o_groups, 1, 4096},
    {"o_lora_rank", &ModelConfig::o_lora_rank, 1, 1 << 16},
    {"sliding_window", &ModelConfig::sliding_window, 1, 1 << 16},
    {"index_n_heads", &ModelConfig::index_n_heads, 1, 4096, Need::with_csa},
    {"index_head_dim", &ModelConfig::index_head_dim, 2, 4096, Need::with_csa},
    {"index_topk", &ModelConfig::index_topk, 1, 1 << 20, Need::with_csa},
    {"n_routed_experts", &ModelConfig::n_experts, 1, 1 << 16},
    {"n_shared_experts", &ModelConfig::n_shared_experts, 1, 64},
    {"num_experts_per_tok", &ModelConfig::n_experts_per_tok, 1, 1 << 16},
    {"moe_intermediate_size", &ModelConfig::expert_width, 1, 1 << 16},
    {"hc_mult", &ModelConfig::hc_mult, 1, 16},
    {"hc_sinkhorn_iters", &ModelConfig::hc_sinkhorn_iters, 1, 1000},
    {"num_nextn_predict_layers", &ModelConfig::n_mtp_layers, 0, 16},
};

struct RealField {
    const char* key;
    double ModelConfig::*member;
    double lo, hi;
};
constexpr RealField kReals[] = {
    {"hc_eps", &ModelConfig::hc_eps, 0, 0.1},
    {"rms_norm_eps", &ModelConfig::rms_norm_eps, 0, 0.1},
    {"routed_scaling_factor", &ModelConfig::routed_scaling_factor, 1e-6, 1e6},
    {"rope_theta", &ModelConfig::rope_theta, 1.0001, 1e12},
    {"compress_rope_theta", &ModelConfig::compress_rope_theta, 1.0001, 1e12},
};
constexpr RealField kYarnFactor = {"factor", nullptr, 1, 1e6};

constexpr RealField kSwigluLimit = {"swiglu_limit", &ModelConfig::swiglu_limit, 1e-6, 1e6};

constexpr int kMaxTokenId = (1 << 22) - 1, kMaxLayers = 1024, kMaxRatio = 1 << 16;
constexpr int64_t kMaxPosition = int64_t{1} << 31;

// Keys that are read, or are known to change nothing here. Others get a warning.
const std::set<std::string>& known_keys() {
    static const std::set<std::string> keys = [] {
        std::set<std::string> k = {
            "num_hidden_layers", "qk_rope_head_dim", "partial_rotary_factor", "max_position_embeddings",
            "compress_ratios", "num_hash_layers", "layer_types", "mlp_layer_types", "compress_rates", "rope_parameters",
            "rope_scaling", "scoring_func", "topk_method", "norm_topk_prob", "hidden_act", "model_type",
            "num_key_value_heads", "attention_bias", "mlp_bias", "tie_word_embeddings", "expert_dtype",
            "quantization_config", "bos_token_id", "eos_token_id", "pad_token_id", "swiglu_limit", "vitrine",
            // no effect on inference
            "architectures", "attention_dropout", "initializer_range", "torch_dtype", "dtype", "transformers_version",
            "use_cache", "output_router_logits", "router_aux_loss_coef", "router_jitter_noise"};
        for (const auto& f : kInts) k.insert(f.key);
        for (const auto& f : kReals) k.insert(f.key);
        return k;
    }();
    return keys;
}

std::string number_text(double v) {
    return v == std::floor(v) && std::abs(v) < 1e15 ? std::to_string(static_cast<int64_t>(v)) : Json(v).dump();
}
std::string range_text(const char* what, double lo, double hi) {
    return std::string("expected ") + what + " in [" + number_text(lo) + ", " + number_text(hi) + "]";
}

class ConfigParser {
  public:
    ConfigParser(const Json& root, const std::string& file) : root_(root), file_(file) {}

    ParsedConfig parse() {
        if (!root_.is_object()) {
            issue("", &root_, "expected an object with the model's sizes");
            throw_if_any(issues_);
        }
        must_be_string("model_type", "deepseek_v4", true);
        schedule();
        for (const IntField& f : kInts) {
            if (f.need == Need::with_csa && !has_kind(LayerKind::csa) && !root_.find(f.key)) continue;
            config_.*f.member = static_cast<int>(integer(root_, "", f.key, f.lo, f.hi));
        }
        mtp();
        rotary();
        for (const RealField& f : kReals)
            if (std::string_view(f.key).find("rope_theta") == std::string_view::npos)
                config_.*f.member = real(root_, "", f.key, f.lo, f.hi);
        config_.max_position = integer(root_, "", "max_position_embeddings", 1, kMaxPosition);
        swiglu_limit();
        token_ids();
        fixed_choices();
        quantization();
        if (const Json* v = root_.find("vitrine")) read_variants(*v, file_, config_, issues_);
        unknown(root_, "", known_keys());
        for (Issue& i : validate(config_, file_)) {  // ranges were told with their positions; what is left must agree
            if (reported_.count(i.key) || (i.key == "num_hidden_layers" && config_.layers.empty())) continue;
            if (follows_from_another(i)) continue;
            if (const Json* v = root_.find(i.key)) i.where = v->where();
            issues_.push_back(std::move(i));
        }
        throw_if_any(issues_);
        if (n_unknown_ > 20) warnings_.push_back(file_ + ": ... and " + std::to_string(n_unknown_ - 20) + " more unknown keys");
        return {std::move(config_), std::move(warnings_)};
    }

  private:
    // False while the schedule isn't known: what else is missing may not be needed.
    bool has_kind(LayerKind k) const {
        for (const auto& l : config_.layers)
            if (l.kind() == k) return true;
        return false;
    }
    bool has_compressed() const { return has_kind(LayerKind::csa) || has_kind(LayerKind::hca); }

    // Values are compared with a key that was already told to be missing or wrong: names it.
    bool follows_from_another(const Issue& i) const {
        const auto is_of_name = [](char c) { return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z'); };
        for (const std::string& key : reported_)
            for (size_t at = i.expected.find(key); at != std::string::npos; at = i.expected.find(key, at + 1))
                if ((at == 0 || !is_of_name(i.expected[at - 1])) &&
                    (at + key.size() == i.expected.size() || !is_of_name(i.expected[at + key.size()])))
                    return true;
        return false;
    }

    void issue(const std::string& key, const Json* v, std::string expected) {
        reported_.insert(key);
        Issue i{file_, key, "", std::move(expected), v ? v->where() : ""};
        if (!v) {
            i.value = "(missing)";
            suggest(key, i.expected);
        } else {
            i.value = v->is_array() || v->is_object() ? v->type_name() : v->dump();
        }
        issues_.push_back(std::move(i));
    }
    // A key that is missing may only be misspelt.
    void suggest(const std::string& key, std::string& expected) const {
        std::vector<std::string> strangers;
        for (const auto& [k, v] : root_.members())
            if (!known_keys().count(k) && strangers.size() < 100) strangers.push_back(k);
        const std::string near = nearest_name(key, strangers);
        if (!near.empty())
            expected += "; is \"" + escaped(near) + "\" (" + root_.at(near).where() + ") meant to be it?";
    }
    void unknown(const Json& object, const std::string& prefix, const std::set<std::string>& known) {
        for (const auto& [k, v] : object.members()) {
            if (known.count(k) || ++n_unknown_ > 20) continue;
            const std::string near = nearest_name(k, {known.begin(), known.end()});
            warnings_.push_back(
                Issue{file_, prefix + k, "",
                      "unknown key, not used" + (near.empty() ? "" : "; did you mean \"" + near + "\"?"), v.where()}
                    .to_string());
        }
    }

    void warn(const std::string& key, const Json& v, std::string what) {
        warnings_.push_back(Issue{file_, key, v.is_object() ? "" : v.dump(), std::move(what), v.where()}.to_string());
    }

    int64_t integer(const Json& object, const std::string& prefix, const char* key, int64_t lo, int64_t hi) {
        const Json* v = object.find(key);
        const bool fits = v && v->type() == Json::Type::integer;
        if (fits && v->as_int() >= lo && v->as_int() <= hi) return v->as_int();
        issue(prefix + key, v, range_text("an integer", static_cast<double>(lo), static_cast<double>(hi)));
        return lo;
    }
    double real(const Json& object, const std::string& prefix, const char* key, double lo, double hi) {
        const Json* v = object.find(key);
        if (v && v->is_number() && v->as_double() >= lo && v->as_double() <= hi) return v->as_double();
        issue(prefix + key, v, range_text("a number", lo, hi));
        return lo;
    }
    // A key whose only implemented value is `value`; absent is fine unless `required`.
    void must_be_string(const char* key, const std::string& value, bool required) {
        const Json* v = root_.find(key);
        if (!v ? required : !v->is_string() || v->as_string() != value)
            issue(key, v, "expected \"" + value + "\", nothing else is implemented");
    }
    void must_be_false(const char* key) {
        const Json* v = root_.find(key);
        if (v && !(v->is_bool() && !v->as_bool())) issue(key, v, "expected false, nothing else is implemented");
    }

    // The official code takes 0 for "no clamp".
    void swiglu_limit() {
        const Json* v = root_.find(kSwigluLimit.key);
        const bool is_none = v && (v->is_null() || (v->is_number() && v->as_double() == 0));
        config_.swiglu_limit = is_none ? std::numeric_limits<double>::infinity()
                                       : real(root_, "", kSwigluLimit.key, kSwigluLimit.lo, kSwigluLimit.hi);
    }

    // null: none. Several tokens may end a text.
    void token_ids() {
        const Json *bos = root_.find("bos_token_id"), *eos = root_.find("eos_token_id");
        config_.bos_id = bos && bos->is_null() ? -1 : static_cast<int>(integer(root_, "", "bos_token_id", 0, kMaxTokenId));
        if (const Json* pad = root_.find("pad_token_id"); pad && !pad->is_null())
            config_.pad_id = static_cast<int>(integer(root_, "", "pad_token_id", -1, kMaxTokenId));
        if (eos && eos->is_null()) {
            config_.eos_id = -1;
        } else if (eos && eos->is_array()) {
            std::vector<int> ids;
            for (const Json& v : eos->items()) {
                if (v.type() != Json::Type::integer || v.as_int() < 0 || v.as_int() > kMaxTokenId)
                    return issue("eos_token_id[" + std::to_string(ids.size()) + "]", &v, range_text("an integer", 0, kMaxTokenId));
                ids.push_back(static_cast<int>(v.as_int()));
            }
            config_.eos_id = ids.empty() ? -1 : ids[0];
            if (!ids.empty()) config_.more_eos_ids.assign(ids.begin() + 1, ids.end());
        } else {
            config_.eos_id = static_cast<int>(integer(root_, "", "eos_token_id", 0, kMaxTokenId));
        }
    }

    void fixed_choices() {
        must_be_string("scoring_func", "sqrtsoftplus", true);
        must_be_string("topk_method", "noaux_tc", false);
        must_be_string("hidden_act", "silu", true);
        must_be_false("attention_bias");
        must_be_false("mlp_bias");
        must_be_false("tie_word_embeddings");
        const Json* norm = root_.find("norm_topk_prob");
        if (!norm || !norm->is_bool())
            issue("norm_topk_prob", norm, "expected true or false");
        else if (!norm->as_bool())  // neither the official nor the Hugging Face code reads this key
            warn("norm_topk_prob", *norm, "weights are normalised all the same, as in the published implementations");
        if (const Json* v = root_.find("num_key_value_heads"); v && !(*v == Json(1)))
            issue("num_key_value_heads", v, "expected 1: keys and values are one shared head");
    }

    void quantization() {
        const Json* dtype = root_.find("expert_dtype");
        if (dtype && !dtype->is_null() &&
            !(dtype->is_string() && (dtype->as_string() == "fp4" || dtype->as_string() == "fp8")))
            issue("expert_dtype", dtype, "expected \"fp4\" or \"fp8\"");
        const Json* q = root_.find("quantization_config");
        if (!q || q->is_null()) return;
        if (!q->is_object()) return issue("quantization_config", q, "expected an object");
        const auto text = [&](const char* key, std::initializer_list<const char*> allowed, bool required) {
            const Json* v = q->find(key);
            bool ok = (!v || v->is_null()) && !required;
            std::string list;
            for (const char* a : allowed)
                ok = ok || (v && v->is_string() && v->as_string() == a),
                list += (list.empty() ? "\"" : " or \"") + std::string(a) + "\"";
            if (!ok) issue(std::string("quantization_config.") + key, v, "expected " + list);
        };
        text("quant_method", {"fp8"}, true);
        text("fmt", {"e4m3"}, false);
        text("scale_fmt", {"ue8m0", "float"}, false);
        text("activation_scheme", {"dynamic"}, false);
        if (const Json* b = q->find("weight_block_size"); b && !(*b == Json::parse("[128, 128]", "")))
            issue("quantization_config.weight_block_size", b, "expected [128, 128]");
        unknown(
            *q, "quantization_config.",
            {"quant_method", "fmt", "scale_fmt", "activation_scheme", "weight_block_size", "modules_to_not_convert"});
    }

    // ---- which layer is what: compress_ratios + num_hash_layers, or layer_types + compress_rates + mlp_layer_types
    // ----------

    void schedule() {
        const auto n = static_cast<size_t>(integer(root_, "", "num_hidden_layers", 1, kMaxLayers));
        if (reported_.count("num_hidden_layers")) return;
        const Json *ratios = root_.find("compress_ratios"), *types = root_.find("layer_types");
        if (!ratios && !types) {
            issue("compress_ratios", nullptr,
                  "expected an array of one number per layer (or layer_types with compress_rates)");
            return;
        }
        std::vector<LayerConfig> layers(n);
        bool ok = true;
        if (ratios) ok = read_ratios(*ratios, layers);
        if (types) {
            std::vector<LayerConfig> other(n);
            const bool types_ok = read_types(*types, other, ratios ? &layers : nullptr);
            if (!ratios) layers = other;
            ok = ok && types_ok;
        }
        ok = read_hash_layers(layers) && ok;
        if (ok) config_.layers = std::move(layers);
    }

    bool read_ratios(const Json& v, std::vector<LayerConfig>& layers) {
        if (!v.is_array() || v.size() < layers.size()) {
            issue("compress_ratios", &v,
                  "expected at least " + std::to_string(layers.size()) + " numbers, one per layer" +
                      (v.is_array() ? ", found " + std::to_string(v.size()) : ""));
            return false;
        }
        bool ok = true;
        for (size_t i = 0; i < v.size(); ++i) {
            const Json& r = v.items()[i];
            if (r.type() != Json::Type::integer || r.as_int() < 0 || r.as_int() > kMaxRatio) {
                issue("compress_ratios[" + std::to_string(i) + "]", &r,
                      "expected 0 (window only), 4 (CSA) or another integer in [0, 65536] (HCA)");
                ok = false;
            } else if (i < layers.size()) {
                layers[i].ratio = static_cast<int>(r.as_int());
            } else {
                ratios_behind_.push_back(static_cast<int>(r.as_int()));
            }
        }
        return ok;
    }

    // The official code lets an MTP module be of any kind; here it is window only and routed by score (v4-spec 6). Another one
    // would guess with another model's numbers.
    void mtp() {
        const auto unused = [&](const char* key, const std::string& what) {
            warn(key, Json(what), "the MTP module is not used: expected one with the sliding window alone, routed by score");
            config_.n_mtp_layers = 0;
        };
        for (size_t i = 0; i < ratios_behind_.size() && static_cast<int>(i) < config_.n_mtp_layers; ++i)
            if (ratios_behind_[i] != 0)
                return unused("compress_ratios", "..., " + std::to_string(ratios_behind_[i]));
        if (config_.n_mtp_layers > 0 && n_hash_layers_ > config_.n_layers())
            unused("num_hash_layers", std::to_string(n_hash_layers_));
    }

    // `declared`: ratios that were given too and must agree.
    bool read_types(const Json& v, std::vector<LayerConfig>& layers, const std::vector<LayerConfig>* declared) {
        if (!v.is_array() || v.size() != layers.size()) {
            issue("layer_types", &v, "expected " + std::to_string(layers.size()) + " strings, one per layer");
            return false;
        }
        static const char *const kSliding = "sliding_attention", *const kCsa = "compressed_sparse_attention",
                                 *const kHca = "heavily_compressed_attention";
        int hca = 0;
        bool ok = true, uses[3] = {};
        for (size_t i = 0; i < layers.size(); ++i) {
            const Json& t = v.items()[i];
            const std::string name = t.is_string() ? t.as_string() : "";
            const int kind = name == kSliding ? 0 : name == kCsa ? 1 : name == kHca ? 2 : -1;
            if (kind < 0) {
                issue("layer_types[" + std::to_string(i) + "]", &t,
                      std::string("expected \"") + kSliding + "\", \"" + kCsa + "\" or \"" + kHca + "\"");
                ok = false;
                continue;
            }
            uses[kind] = true;
            layers[i].ratio = kind == 1 ? 4 : kind == 2 ? -1 : 0;  // -1: from compress_rates
            if (declared && static_cast<int>((*declared)[i].kind()) != kind) {
                issue("layer_types[" + std::to_string(i) + "]", &t,
                      "expected it to agree with compress_ratios[" + std::to_string(i) +
                          "] = " + std::to_string((*declared)[i].ratio));
                ok = false;
            }
        }
        if (declared || !ok) return ok;
        const Json* rates = root_.find("compress_rates");
        if ((uses[1] || uses[2]) && (!rates || !rates->is_object())) {
            issue("compress_rates", rates, std::string("expected an object with ") + kCsa + " and " + kHca);
            return false;
        }
        if (uses[1] && integer(*rates, "compress_rates.", kCsa, 4, 4) != 4) return false;
        if (uses[2]) {
            hca = static_cast<int>(integer(*rates, "compress_rates.", kHca, 1, kMaxRatio));
            if (hca == 4) {
                issue(std::string("compress_rates.") + kHca, rates->find(kHca),
                      "expected another number than 4, which means CSA");
                return false;
            }
        }
        for (auto& l : layers) l.ratio = l.ratio < 0 ? hca : l.ratio;
        return true;
    }

    bool read_hash_layers(std::vector<LayerConfig>& layers) {
        const Json *n = root_.find("num_hash_layers"), *types = root_.find("mlp_layer_types");
        const auto count = static_cast<int64_t>(layers.size());
        if (!n && !types) {
            issue("num_hash_layers", nullptr, range_text("an integer", 0, kMaxLayers) + " (or mlp_layer_types)");
            return false;
        }
        if (n) {  // "layers below it": a model cut short keeps the number
            const int64_t k = integer(root_, "", "num_hash_layers", 0, kMaxLayers);
            n_hash_layers_ = k;
            for (int64_t i = 0; i < std::min(k, count); ++i) layers[static_cast<size_t>(i)].is_hash_routed = true;
        }
        if (!types) return true;
        if (!types->is_array() || types->size() != layers.size()) {
            issue("mlp_layer_types", types, "expected " + std::to_string(count) + " strings, one per layer");
            return false;
        }
        bool ok = true;
        for (size_t i = 0; i < layers.size(); ++i) {
            const Json& t = types->items()[i];
            const bool hash = t == Json("hash_moe"), moe = t == Json("moe");
            const std::string key = "mlp_layer_types[" + std::to_string(i) + "]";
            if (!hash && !moe)
                issue(key, &t, "expected \"hash_moe\" or \"moe\""), ok = false;
            else if (n && hash != layers[i].is_hash_routed)
                issue(key, &t, "expected it to agree with num_hash_layers"), ok = false;
            layers[i].is_hash_routed = hash;
        }
        return ok;
    }

    // ---- rotary embedding: rope_theta + rope_scaling, or rope_parameters.{main,compress}
    // ------------------------------------

    void rotary() {
        const Json *parameters = root_.find("rope_parameters"), *main = nullptr, *compress = nullptr;
        const bool nested = parameters && parameters->is_object() && parameters->find("main");
        // Flat, as rope_scaling: for compressed layers.
        const Json* flat = !nested && parameters && parameters->is_object() && parameters->find("rope_type") ? parameters : nullptr;
        if (parameters && !parameters->is_null() && !nested && !flat) {
            issue("rope_parameters", parameters, "expected an object with main and compress");
            for (const RealField& f : kReals)  // what it should have said
                if (std::string_view(f.key).find("rope_theta") != std::string_view::npos) reported_.insert(f.key);
            return rope_dim(nullptr, nullptr);
        }
        if (nested) main = parameters->find("main"), compress = parameters->find("compress");
        if (nested) {
            if (!main->is_object()) return issue("rope_parameters.main", main, "expected an object");
            config_.rope_theta = real(*main, "rope_parameters.main.", "rope_theta", 1.0001, 1e12);
            same_as_top("rope_theta", config_.rope_theta);
            if (is_yarn(*main, "rope_parameters.main."))
                issue("rope_parameters.main.rope_type", main->find("rope_type"),
                      "expected \"default\": YaRN is for compressed layers only");
            unknown(*main, "rope_parameters.main.", {"rope_type", "type", "rope_theta", "partial_rotary_factor"});
        } else {
            config_.rope_theta = real(root_, "", "rope_theta", 1.0001, 1e12);
        }
        if (has_compressed()) {
            if (nested) {
                if (!compress || !compress->is_object())
                    return issue("rope_parameters.compress", compress, "expected an object");
                config_.compress_rope_theta = real(*compress, "rope_parameters.compress.", "rope_theta", 1.0001, 1e12);
                same_as_top("compress_rope_theta", config_.compress_rope_theta);
                yarn(*compress, "rope_parameters.compress.");
            } else {
                config_.compress_rope_theta = real(root_, "", "compress_rope_theta", 1.0001, 1e12);
                const Json *other = root_.find("rope_scaling"), *scaling = flat ? flat : other;
                if (flat && other && !other->is_null() && !(*other == *flat))
                    warn("rope_scaling", *other, "not used: rope_parameters is there");
                if (!scaling || !(scaling->is_null() || scaling->is_object()))
                    issue("rope_scaling", scaling, "expected an object of YaRN's numbers, or null for none");
                else if (scaling->is_object())
                    yarn(*scaling, flat ? "rope_parameters." : "rope_scaling.");
            }
        } else if (!nested && root_.find("compress_rope_theta")) {  // nobody reads it; written again as it was
            config_.compress_rope_theta = real(root_, "", "compress_rope_theta", 1.0001, 1e12);
        }
        rope_dim(nested ? main : nullptr, nested ? compress : nullptr);
    }

    // transformers keeps defaults at the top when only rope_parameters was given, and never reads them again.
    void same_as_top(const char* key, double value) {
        const Json* v = root_.find(key);
        if (v && !(v->is_number() && v->as_double() == value))
            warn(key, *v, "not used: rope_parameters says " + number_text(value));
    }

    bool is_yarn(const Json& o, const std::string& prefix) {
        const Json *a = o.find("rope_type"), *b = o.find("type"), *v = a ? a : b;
        if (a && b && !(*a == *b)) issue(prefix + "type", b, "expected it to agree with rope_type");
        if (v && (*v == Json("default") || *v == Json("yarn"))) return *v == Json("yarn");
        issue(prefix + (b && !a ? "type" : "rope_type"), v, "expected \"yarn\" or \"default\"");
        return false;
    }

    void yarn(const Json& o, const std::string& prefix) {
        unknown(o, prefix,
                {"rope_type", "type", "rope_theta", "partial_rotary_factor", "factor",
                 "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor", "truncate"});
        if (!is_yarn(o, prefix)) return;
        // The published implementations round the ramp's ends whatever this says.
        if (const Json* v = o.find("truncate"); v && !(*v == Json(true)))
            warn(prefix + "truncate", *v, "not used: the ramp begins and ends at whole numbers in this architecture");
        config_.has_yarn = true;
        if (prefix == "rope_parameters.compress." && !o.find("attention_factor"))
            warnings_.push_back(Issue{file_, prefix + "attention_factor", "(missing)",
                                      "1 is used, as by the official code; transformers would scale angles by 0.1 ln(factor) + 1",
                                      o.where()}
                                    .to_string());
        config_.yarn.factor = real(o, prefix, "factor", kYarnFactor.lo, kYarnFactor.hi);
        config_.yarn.beta_fast = real(o, prefix, "beta_fast", 1e-3, 1e6);
        config_.yarn.beta_slow = real(o, prefix, "beta_slow", 1e-3, 1e6);
        config_.yarn.original_max_position = integer(o, prefix, "original_max_position_embeddings", 1, kMaxPosition);
        if (const Json* v = o.find("attention_factor"); v && !(*v == Json(1)))
            issue(prefix + "attention_factor", v, "expected 1: scores are not scaled in this architecture");
        if (config_.yarn.beta_fast <= config_.yarn.beta_slow && !reported_.count(prefix + "beta_fast") &&
            !reported_.count(prefix + "beta_slow"))
            issue(prefix + "beta_fast", o.find("beta_fast"),
                  "expected more than beta_slow = " + number_text(config_.yarn.beta_slow));
    }

    // The sizes in rope_parameters are what transformers rotates by; those at the top may be defaults.
    void rope_dim(const Json* main, const Json* compress) {
        const Json *top = root_.find("qk_rope_head_dim"), *factor = root_.find("partial_rotary_factor");
        const Json* own = main ? main->find("partial_rotary_factor") : nullptr;
        const Json* other = compress && compress->is_object() ? compress->find("partial_rotary_factor") : nullptr;
        if (own && other && !(*own == *other))
            issue("rope_parameters.compress.partial_rotary_factor", other,
                  "expected it to agree with main: all layers rotate as many dimensions");
        if (top && !own) {
            config_.rope_dim = static_cast<int>(integer(root_, "", "qk_rope_head_dim", 2, 4096));
            return;
        }
        const Json* used = own ? own : factor;
        if (!used || !used->is_number() || !(used->as_double() > 0 && used->as_double() <= 1))
            return issue("qk_rope_head_dim", used,
                         "expected an even integer in [2, head_dim] (or partial_rotary_factor in (0, 1])");
        config_.rope_dim = static_cast<int>(std::lround(used->as_double() * config_.head_dim));
        if (own && top && !(*top == Json(config_.rope_dim)))
            warn("qk_rope_head_dim", *top, "not used: rope_parameters rotates " + std::to_string(config_.rope_dim));
        if (own && factor && !top && !(*own == *factor))
            warn("partial_rotary_factor", *factor, "not used: rope_parameters says " + own->dump());
    }

    const Json& root_;
    std::string file_;
    ModelConfig config_;
    std::vector<Issue> issues_;
    std::vector<std::string> warnings_;
    std::set<std::string> reported_;
    std::vector<int> ratios_behind_;  // of compress_ratios, beyond the trunk
    int64_t n_hash_layers_ = 0;       // as num_hash_layers says
    size_t n_unknown_ = 0;
};

}  // namespace

ParsedConfig parse_config(const std::string& json_text, const std::string& file) {
    const Json root = Json::parse(json_text, file);
    return ConfigParser(root, file).parse();
}

ParsedConfig read_config(const std::string& folder) {
    const std::string file = folder + (folder.ends_with('/') ? "" : "/") + "config.json";
    return parse_config(read_file(file, 1 << 20), file);
}

std::vector<Issue> validate(const ModelConfig& c, const std::string& file) {
    std::vector<Issue> issues;
    const auto bad = [&](const char* key, double value, std::string expected) {
        issues.push_back({file, key, number_text(value), std::move(expected), ""});
    };
    bool has_csa = false, has_compressed = false;
    for (const LayerConfig& l : c.layers)
        has_csa = has_csa || l.kind() == LayerKind::csa, has_compressed = has_compressed || l.ratio > 0;
    for (const IntField& f : kInts)
        if ((f.need == Need::always || has_csa) && (c.*f.member < f.lo || c.*f.member > f.hi))
            bad(f.key, c.*f.member, range_text("an integer", f.lo, f.hi));
    for (const RealField& f : kReals) {
        if (f.member == &ModelConfig::compress_rope_theta && !has_compressed) continue;
        if (!(c.*f.member >= f.lo && c.*f.member <= f.hi))
            issues.push_back({file, f.key, std::to_string(c.*f.member), range_text("a number", f.lo, f.hi), ""});
    }
    if (!(c.swiglu_limit >= kSwigluLimit.lo && (c.swiglu_limit <= kSwigluLimit.hi || std::isinf(c.swiglu_limit))))
        issues.push_back({file, kSwigluLimit.key, std::to_string(c.swiglu_limit),
                          range_text("a number", kSwigluLimit.lo, kSwigluLimit.hi), ""});
    if (c.layers.empty() || c.layers.size() > kMaxLayers)
        bad("num_hidden_layers", static_cast<double>(c.layers.size()), range_text("an integer", 1, kMaxLayers));
    for (size_t i = 0; i < c.layers.size(); ++i)
        if (c.layers[i].ratio < 0 || c.layers[i].ratio > kMaxRatio)
            bad(("compress_ratios[" + std::to_string(i) + "]").c_str(), c.layers[i].ratio,
                range_text("an integer", 0, kMaxRatio));
    if (c.max_position < 1 || c.max_position > kMaxPosition)
        bad("max_position_embeddings", static_cast<double>(c.max_position),
            range_text("an integer", 1, static_cast<double>(kMaxPosition)));
    if (!issues.empty()) return issues;  // what follows compares values that are fine by themselves

    if (c.rope_dim < 2 || c.rope_dim % 2 || c.rope_dim > c.head_dim)
        bad("qk_rope_head_dim", c.rope_dim,
            "expected an even integer in [2, " + std::to_string(c.head_dim) + "], head_dim");
    if (has_csa && c.index_head_dim < c.rope_dim)
        bad("index_head_dim", c.index_head_dim, "expected at least qk_rope_head_dim = " + std::to_string(c.rope_dim));
    if (const Residual& r = residual_for(c); c.hc_mult > r.max_streams)
        bad("hc_mult", c.hc_mult,
            (r.max_streams > 1 ? "expected at most " : "expected ") + std::to_string(r.max_streams) +
                " with residual connections \"" + r.name + "\"");
    if (c.n_heads % c.o_groups)
        bad("o_groups", c.o_groups, "expected a divisor of num_attention_heads = " + std::to_string(c.n_heads));
    if (c.n_experts_per_tok > c.n_experts)
        bad("num_experts_per_tok", c.n_experts_per_tok,
            "expected at most n_routed_experts = " + std::to_string(c.n_experts));
    std::vector<std::pair<const char*, int>> tokens = {{"bos_token_id", c.bos_id}, {"eos_token_id", c.eos_id}};
    for (const int id : c.more_eos_ids) tokens.emplace_back("eos_token_id", id);
    for (const auto& [key, id] : tokens)
        if (id >= c.vocab_size) bad(key, id, "expected a token below vocab_size = " + std::to_string(c.vocab_size));
    if (c.has_yarn && !(c.yarn.factor >= kYarnFactor.lo && c.yarn.beta_fast > c.yarn.beta_slow &&
                        c.yarn.beta_slow > 0 && c.yarn.original_max_position >= 1))
        bad("rope_scaling", c.yarn.factor,
            "expected factor >= 1, beta_fast > beta_slow > 0, original_max_position_embeddings >= 1");
    for (Issue& i : validate_variants(c, file)) issues.push_back(std::move(i));
    return issues;
}

std::vector<Issue> validate_reference(const ModelConfig& c, const std::string& file) {
    std::vector<Issue> issues = validate(c, file);
    bool has_csa = false;
    for (const LayerConfig& l : c.layers) has_csa = has_csa || l.kind() == LayerKind::csa;
    if (has_csa && (c.index_head_dim & (c.index_head_dim - 1)))
        issues.push_back({file, "index_head_dim", std::to_string(c.index_head_dim),
                          "expected a power of two with --numerics reference (its index keys pass a Hadamard "
                          "rotation); --numerics exact takes any",
                          ""});
    return issues;
}

namespace {

Json eos_to_json(const ModelConfig& c) {
    if (c.eos_id < 0) return {};
    if (c.more_eos_ids.empty()) return c.eos_id;
    Json ids = Json::array();
    ids.push(c.eos_id);
    for (const int id : c.more_eos_ids) ids.push(id);
    return ids;
}

}  // namespace

std::string config_to_json(const ModelConfig& c) {
    Json j = Json::object();
    Json architectures = Json::array(), ratios = Json::array();
    architectures.push("DeepseekV4ForCausalLM");
    Json kinds = Json::array();
    int n_hash = 0;         // of the first layers
    bool is_prefix = true;  // all that are hash-routed
    for (const LayerConfig& l : c.layers) {
        ratios.push(l.ratio);
        kinds.push(l.is_hash_routed ? "hash_moe" : "moe");
        if (l.is_hash_routed) is_prefix = is_prefix && ++n_hash == static_cast<int>(ratios.size());
    }
    for (int i = 0; i < c.n_mtp_layers; ++i) ratios.push(0);
    j.set("architectures", std::move(architectures));
    j.set("model_type", "deepseek_v4");
    j.set("num_hidden_layers", c.n_layers());
    for (const IntField& f : kInts)  // what nobody reads may not be set
        if (f.need == Need::always || c.*f.member != 0) j.set(f.key, c.*f.member);
    j.set("bos_token_id", c.bos_id < 0 ? Json() : Json(c.bos_id));
    j.set("eos_token_id", eos_to_json(c));
    if (c.pad_id >= 0) j.set("pad_token_id", Json(c.pad_id));
    j.set("num_key_value_heads", 1);
    j.set("qk_rope_head_dim", c.rope_dim);
    j.set("compress_ratios", std::move(ratios));
    if (is_prefix) j.set("num_hash_layers", n_hash);
    else j.set("mlp_layer_types", std::move(kinds));
    for (const RealField& f : kReals)
        if (f.member != &ModelConfig::compress_rope_theta || c.compress_rope_theta != 0) j.set(f.key, c.*f.member);
    j.set(kSwigluLimit.key, std::isinf(c.swiglu_limit) ? 0.0 : c.swiglu_limit);
    Json scaling;
    if (c.has_yarn) {
        scaling.set("type", "yarn");
        scaling.set("rope_type", "yarn");
        scaling.set("factor", c.yarn.factor);
        scaling.set("original_max_position_embeddings", c.yarn.original_max_position);
        scaling.set("beta_fast", c.yarn.beta_fast);
        scaling.set("beta_slow", c.yarn.beta_slow);
    }
    j.set("rope_scaling", std::move(scaling));
    j.set("max_position_embeddings", c.max_position);
    j.set("scoring_func", "sqrtsoftplus");
    j.set("topk_method", "noaux_tc");
    j.set("norm_topk_prob", c.norm_topk_prob);
    j.set("hidden_act", "silu");
    j.set("attention_bias", false);
    j.set("attention_dropout", 0.0);
    j.set("initializer_range", 0.02);
    j.set("tie_word_embeddings", false);
    j.set("use_cache", true);
    if (Json v = variants_to_json(c); v.size() > 0) j.set("vitrine", std::move(v));
    return j.dump(1) + "\n";
}

}  // namespace vitrine
