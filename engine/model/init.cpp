// Random-weight checkpoints: a plan of all tensors, cut into shards, written tensor by tensor.
#include "engine/model/init.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "engine/base/rng.h"
#include "engine/device/cpu/formats.h"
#include "engine/model/config.h"
#include "engine/model/roles.h"
#include "engine/model/texts.h"
#include "engine/weights/checkpoint.h"
#include "engine/weights/quantize.h"

namespace vitrine {
namespace fs = std::filesystem;
namespace {

// ---- values
// -------------------------------------------------------------------------------------------------------------------

// Nearly normal with mean 0 and deviation 1: the sum of the four 16-bit parts of one random word. Only integer
// arithmetic and one product, so the numbers are the same everywhere; bounded by 3.5.
float rough_normal(uint64_t bits) {
    const auto sum =
        static_cast<int32_t>((bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48));
    return static_cast<float>(sum - 131070) * (1.0f / 37837.227f);  // 65536 / sqrt(3)
}

struct Draw {
    float deviation, mean = 0;
    bool is_bf16 = true;  // rounded to BF16 in every format
};

// Deviations that keep activations near 1 with every mechanism at work: routers and poolings that choose, sinks and
// mixing matrices that differ.
Draw draw_of(const std::string& name, const Shape& shape) {
    const auto ends = [&](const char* s) { return name.ends_with(s); };
    const auto has = [&](const char* s) { return name.find(s) != std::string::npos; };
    const bool is_head = has("hc_head");
    if (ends("_fn")) return {1 / std::sqrt(static_cast<float>(shape[1])), 0, false};
    if (ends("_base")) return {is_head ? 0.5f : 0.7f, 0, false};
    if (ends("_scale")) return {0.1f, is_head ? 1.0f : 0.8f, false};
    if (ends("attn_sink")) return {1, 0, false};
    if (ends(".ape")) return {0.5f, 0, false};
    if (ends("gate.bias")) return {0.1f, 0, false};
    if (ends("kv_norm.weight") || (ends("attn.compressor.norm.weight"))) return {0.2f, 1.5f};
    if (ends("indexer.compressor.norm.weight")) return {0.2f, 1};
    if (shape.rank == 1) return {0.1f, 1};  // the other norms
    if (name == "embed.weight") return {1};
    const bool is_stronger = has(".ffn.") || has(".wo_") || ends("wgate.weight");
    const float gain = name == "head.weight" ? 2 : is_stronger ? 1.5f : 1;
    return {gain / std::sqrt(static_cast<float>(shape[1]))};
}

void fill(const CounterRng& rng, const Draw& draw, uint64_t first, int64_t n, float* out) {
    for (int64_t i = 0; i < n; ++i)
        out[i] = draw.mean + draw.deviation * rough_normal(rng.bits(first + static_cast<uint64_t>(i)));
    if (draw.is_bf16)
        for (int64_t i = 0; i < n; ++i) out[i] = cpu::round_bf16(out[i]);
}

// ---- the plan
// -----------------------------------------------------------------------------------------------------------------

struct Job {
    std::string name;
    Shape shape;
    Storage storage;
    TensorPlan data;
    TensorPlan scale;  // no name: none
    uint64_t bytes() const { return data.bytes() + (scale.name.empty() ? 0 : scale.bytes()); }
    // Large elements first, so that every tensor is aligned; F32 scales follow their F8 data while offsets are
    // multiples of 4.
    int order() const {
        if (scale.name.empty()) return data.dtype == DType::i64 ? 0 : data.dtype == DType::f32 ? 1 : 2;
        return scale.dtype == DType::f32 ? 3 : 4;
    }
};

std::vector<int64_t> dims(const Shape& s) {
    return {s.n.begin(), s.n.begin() + s.rank};
}

Job plan_job(const std::string& name, const Shape& shape, Storage storage, WeightsFormat format) {
    Job j{name, shape, storage, {name, DType::f32, dims(shape)}, {}};
    const bool packs = format == WeightsFormat::fp8 || format == WeightsFormat::official;
    if (storage == Storage::table) {
        j.data.dtype = DType::i64;
    } else if (packs && (storage == Storage::matrix || storage == Storage::expert)) {
        const bool is_fp4 = storage == Storage::expert && format == WeightsFormat::official;
        const int64_t rows = is_fp4 ? 1 : 128, cols = is_fp4 ? 32 : 128;
        j.data.dtype = is_fp4 ? DType::i8 : DType::f8_e4m3;
        if (is_fp4) j.data.shape[1] /= 2;
        j.scale.name = name.substr(0, name.size() - 6) + "scale";  // ".weight" to ".scale"
        j.scale.dtype = storage == Storage::expert && !is_fp4 ? DType::f32 : DType::f8_e8m0;
        j.scale.shape = {(shape[0] + rows - 1) / rows, (shape[1] + cols - 1) / cols};
    } else if (format != WeightsFormat::f32 && draw_of(name, shape).is_bf16) {
        j.data.dtype = DType::bf16;
    }
    return j;
}

std::vector<std::vector<Job>> plan_shards(const ModelConfig& c, WeightsFormat format, uint64_t shard_bytes) {
    std::vector<std::vector<Job>> shards(1);
    uint64_t bytes = 0;
    auto visit = [&](const std::string& name, Param&, const Shape& shape, Storage storage) {
        Job j = plan_job(name, shape, storage, format);
        if (bytes > 0 && bytes + j.bytes() > shard_bytes) shards.emplace_back(), bytes = 0;
        bytes += j.bytes();
        shards.back().push_back(std::move(j));
    };
    ModelWeights places;  // the list wants somewhere to put its params
    trunk_roles(places, c, visit);
    if (c.n_mtp_layers) mtp_roles(places, c, visit);
    for (auto& s : shards)
        std::stable_sort(s.begin(), s.end(), [](const Job& a, const Job& b) { return a.order() < b.order(); });
    return shards;
}

// ---- writing
// ------------------------------------------------------------------------------------------------------------------

class Writer {
  public:
    // from: weights to write, under their official names; null: random ones.
    Writer(const ModelConfig& c, uint64_t seed, WeightsFormat format, const fs::path& folder,
           const InitOptions& options, const std::map<std::string, const Param*>* from = nullptr)
        : config_(c), seed_(seed), format_(format), folder_(folder), options_(options), from_(from) {}

    // texts: name and content of files that belong to the model.
    void run(const std::vector<std::pair<std::string, std::string>>& texts) {
        const auto shards = plan_shards(config_, format_, options_.shard_bytes);
        for (const auto& s : shards)
            for (const Job& j : s) total_ += j.bytes();
        prepare_folder();
        try {
            write_shards(shards);
            for (const auto& [name, text] : texts) text_file(name.c_str(), text);
            text_file("config.json", config_text());  // last: a folder without it is no model
        } catch (...) {
            std::error_code ignored;
            for (const auto& p : written_) fs::remove(p, ignored);
            throw;
        }
    }

    std::vector<std::pair<std::string, std::string>> random_texts() const {
        return {{"tokenizer.json", byte_tokenizer_json()},
                {"chat.json", chat_json()},
                {"generation_config.json", generation_json()}};
    }

  private:
    void prepare_folder() {
        std::error_code error;
        fs::create_directories(folder_, error);
        if (error)
            throw Error(ErrorKind::io, escaped(folder_.string(), 512) + ": can't be created: " + error.message());
        for (const auto& e : fs::directory_iterator(folder_)) {
            const std::string name = e.path().filename().string();
            if (name == "config.json" || name == "tokenizer.json" || name.ends_with(".safetensors") ||
                name.ends_with(".index.json"))
                throw_if_any({{folder_.string(), "", name, "expected a folder that holds no model yet", ""}});
        }
        const fs::space_info space = fs::space(folder_, error);
        if (!error && space.available < total_ + (1 << 20))
            throw Error(ErrorKind::io, escaped(folder_.string(), 512) + ": the checkpoint needs " +
                                           std::to_string(total_) + " bytes, " + std::to_string(space.available) +
                                           " are free");
    }

    void write_shards(const std::vector<std::vector<Job>>& shards) {
        Json map = Json::object();
        for (size_t i = 0; i < shards.size(); ++i) {
            char name[64] = "model.safetensors";
            if (shards.size() > 1)
                std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
            std::vector<TensorPlan> plan;
            for (const Job& j : shards[i]) {
                plan.push_back(j.data);
                map.set(j.data.name, name);
                if (j.scale.name.empty()) continue;
                plan.push_back(j.scale);
                map.set(j.scale.name, name);
            }
            SafetensorsWriter file((folder_ / name).string(), std::move(plan));
            for (const Job& j : shards[i]) write_job(j, file);
            file.finish();
            written_.push_back(folder_ / name);
        }
        if (shards.size() == 1) return;
        Json index = Json::object(), metadata = Json::object();
        metadata.set("total_size", static_cast<int64_t>(total_));
        index.set("metadata", std::move(metadata));
        index.set("weight_map", std::move(map));
        text_file("model.safetensors.index.json", index.dump(1) + "\n");
    }

    void write_job(const Job& j, SafetensorsWriter& file) {
        if (options_.stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
        const CounterRng rng(seed_, fnv1a64(j.name));
        if (j.storage == Storage::table)
            write_table(j, rng, file);
        else if (!j.scale.name.empty())
            write_packed(j, rng, file);
        else
            write_plain(j, rng, file);
        done_ += j.bytes();
        if (options_.report) options_.report(done_, total_);
    }

    void write_plain(const Job& j, const CounterRng& rng, SafetensorsWriter& file) {
        constexpr int64_t kPiece = 1 << 18;
        const Draw draw = draw_of(j.name, j.shape);
        values_.resize(kPiece);
        halves_.resize(kPiece);
        for (int64_t at = 0, n = j.shape.count(); at < n; at += kPiece) {
            const int64_t count = std::min(kPiece, n - at);
            if (from_) {
                widen(j, at, count);
            } else {
                fill(rng, draw, static_cast<uint64_t>(at), count, values_.data());
                if (at == 0 && j.shape.rank == 1) near_start(j, count);
            }
            if (j.data.dtype == DType::f32) {
                file.write(values_.data(), static_cast<uint64_t>(count) * 4);
            } else {
                for (int64_t i = 0; i < count; ++i)
                    halves_[static_cast<size_t>(i)] = cpu::f32_to_bf16(values_[static_cast<size_t>(i)]);
                file.write(halves_.data(), static_cast<uint64_t>(count) * 2);
            }
        }
    }

    // Of residual variants other than V4's: base and scale near where training starts, so that gains stay near 1.
    void near_start(const Job& j, int64_t count) {
        constexpr float kNoise = 0.1f;
        if (config_.variants.residual == ResidualKind::mhc) return;
        std::vector<float> start(static_cast<size_t>(count));
        if (!start_hyper_weight(config_, j.name, 0.1, 2, start)) return;
        for (size_t i = 0; i < start.size(); ++i) values_[i] = start[i] + kNoise * values_[i];
    }

    void write_packed(const Job& j, const CounterRng& rng, SafetensorsWriter& file) {
        values_.resize(static_cast<size_t>(j.shape.count()));
        if (from_) widen(j, 0, j.shape.count());
        else fill(rng, draw_of(j.name, j.shape), 0, j.shape.count(), values_.data());
        const PackedBytes p = j.data.dtype == DType::i8
                                  ? pack_fp4(values_.data(), j.shape[0], j.shape[1])
                                  : pack_fp8(values_.data(), j.shape[0], j.shape[1], j.scale.dtype);
        file.write(p.data.data(), p.data.size());
        file.write(p.scale.data(), p.scale.size());
    }

    // Values [first, first + count) of a tensor to write, to the start of values_.
    void widen(const Job& j, int64_t first, int64_t count) {
        const Param& p = *from_->at(j.name);
        const int64_t cols = p.view.in;
        row_.resize(static_cast<size_t>(cols));
        for (int64_t at = first; at < first + count;) {
            const int64_t row = at / cols, col = at % cols, n = std::min(cols - col, first + count - at);
            p.widen_row(row, row_.data());
            std::copy_n(row_.data() + col, n, values_.data() + (at - first));
            at += n;
        }
    }

    // For each token K different experts: the first K of a shuffle.
    void write_table(const Job& j, const CounterRng& rng, SafetensorsWriter& file) {
        const int64_t k = j.shape[1];
        if (from_) {
            const cpu::PackedMatrix& table = from_->at(j.name)->view;
            std::vector<int64_t> ids(static_cast<size_t>(j.shape.count()));
            for (size_t i = 0; i < ids.size(); ++i)
                ids[i] = table.dtype == DType::i64 ? static_cast<const int64_t*>(table.data)[i]
                                                   : static_cast<const int32_t*>(table.data)[i];
            file.write(ids.data(), ids.size() * sizeof(int64_t));
            return;
        }
        std::vector<int64_t> experts(static_cast<size_t>(config_.n_experts));
        for (int64_t token = 0; token < j.shape[0]; ++token) {
            for (size_t e = 0; e < experts.size(); ++e) experts[e] = static_cast<int64_t>(e);
            for (int64_t i = 0; i < k; ++i) {
                const uint64_t left = experts.size() - static_cast<uint64_t>(i);
                std::swap(experts[static_cast<size_t>(i)],
                          experts[static_cast<size_t>(i) + rng.bits(static_cast<uint64_t>(token * k + i)) % left]);
            }
            file.write(experts.data(), static_cast<uint64_t>(k) * sizeof(int64_t));
        }
    }

    void text_file(const char* name, const std::string& text) {
        write_file_atomic((folder_ / name).string(), text);
        written_.push_back(folder_ / name);
    }

    std::string config_text() const {
        Json j = Json::parse(config_to_json(config_), "config.json");
        j.set("torch_dtype", format_ == WeightsFormat::f32 ? "float32" : "bfloat16");
        if (format_ == WeightsFormat::fp8 || format_ == WeightsFormat::official) {
            j.set("expert_dtype", format_ == WeightsFormat::official ? "fp4" : "fp8");
            j.set("quantization_config", Json::parse(R"({"quant_method": "fp8", "fmt": "e4m3", "scale_fmt": "ue8m0",
                "weight_block_size": [128, 128], "activation_scheme": "dynamic"})",
                                                     "quantization_config"));
        }
        return j.dump(1) + "\n";
    }
    std::string chat_json() const {
        Json j = Json::object(), prefix = Json::object();
        prefix.set("high", "");
        prefix.set("max", "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n");
        j.set("format", "deepseek_v4");
        j.set("effort_prefix", std::move(prefix));
        j.set("note",
              "random weights, seed " + std::to_string(seed_) + ", made by vitrine init: its answers mean nothing");
        return j.dump(1) + "\n";
    }
    std::string generation_json() const {
        Json j = Json::object();
        j.set("do_sample", true);
        j.set("temperature", 1.0);
        j.set("top_p", 1.0);
        const Json config = Json::parse(config_to_json(config_), "config.json");
        for (const char* key : {"bos_token_id", "eos_token_id"}) j.set(key, config.at(key));
        return j.dump(1) + "\n";
    }

    const ModelConfig& config_;
    uint64_t seed_;
    WeightsFormat format_;
    fs::path folder_;
    const InitOptions& options_;
    uint64_t total_ = 0, done_ = 0;
    std::vector<fs::path> written_;
    std::vector<float> values_, row_;
    std::vector<uint16_t> halves_;
    const std::map<std::string, const Param*>* from_;
};

}  // namespace

namespace {

std::vector<Issue> issues_of(const ModelConfig& config, WeightsFormat format) {
    std::vector<Issue> issues = validate(config, "");
    if (format == WeightsFormat::official && (config.hidden_size % 2 || config.expert_width % 2))
        issues.push_back(
            {"", "hidden_size", std::to_string(config.hidden_size), "expected even widths for FP4 experts", ""});
    return issues;
}

}  // namespace

void repack_checkpoint(const std::string& folder, WeightsFormat format, const std::string& out_dir,
                       const InitOptions& options) {
    ModelConfig config = read_config(folder).config;
    throw_if_any(issues_of(config, format));
    ModelWeights weights = load_weights(folder, config, options.stop);
    config.n_mtp_layers = static_cast<int>(weights.mtp.size());
    std::map<std::string, const Param*> params;
    const auto visit = [&](const std::string& name, Param& p, const Shape&, Storage) { params[name] = &p; };
    trunk_roles(weights, config, visit);
    if (!weights.mtp.empty()) mtp_roles(weights, config, visit);
    Writer(config, 0, format, out_dir, options, &params).run(ModelTexts::read(folder).files);
    throw_if_mapping_failed();
}

void init_checkpoint(const ModelConfig& config, uint64_t seed, WeightsFormat format, const std::string& out_dir,
                     const InitOptions& options) {
    std::vector<Issue> issues = issues_of(config, format);
    if (config.vocab_size < 272)
        issues.push_back({"", "vocab_size", std::to_string(config.vocab_size),
                          "expected at least 272: 256 bytes and 16 control tokens", ""});
    throw_if_any(issues);
    Writer writer(config, seed, format, out_dir, options);
    writer.run(writer.random_texts());
}

void init_checkpoint(const std::string& preset, uint64_t seed, WeightsFormat format, const std::string& out_dir,
                     const InitOptions& options) {
    init_checkpoint(preset_config(preset), seed, format, out_dir, options);
}

}  // namespace vitrine
