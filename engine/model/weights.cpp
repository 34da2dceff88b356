// From the tensors of a folder to the weights by role: one list of roles, checked against config and file in one pass.
#include "engine/model/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <unordered_map>

#include "engine/base/stop.h"
#include "engine/device/cpu/formats.h"
#include "engine/model/config.h"
#include "engine/model/roles.h"
#include "engine/weights/checkpoint.h"
#include "engine/weights/names_v4.h"

namespace vitrine {
namespace {

// ---- filling a role from the file
// ---------------------------------------------------------------------------------------------

bool is_float(DType t) {
    return t == DType::f32 || t == DType::f16 || t == DType::bf16;
}

std::vector<int64_t> dims(const Shape& s) {
    return {s.n.begin(), s.n.begin() + s.rank};
}

const char* allowed(Storage s) {
    switch (s) {
        case Storage::plain:
            return "F32, F16 or BF16 ";
        case Storage::matrix:
            return "F32, F16, BF16 or F8_E4M3 ";
        case Storage::expert:
            return "F32, F16, BF16, F8_E4M3 (or I8 for FP4, half as wide) ";
        case Storage::table:
            return "I64 or I32 ";
    }
    return "";
}

class Loader {
  public:
    Loader(const std::string& folder, const ModelConfig& c, std::stop_token stop)
        : folder_(folder), config_(c), stop_(std::move(stop)), raw_(read_folder(folder, stop_)) {
        for (const auto& [name, t] : raw_) {
            const CanonicalName canonical = canonical_name(name);
            if (canonical.is_redundant) {
                used_.insert(&t);
                continue;
            }
            const auto [at, is_new] = by_name_.try_emplace(canonical.name, &t);
            if (!is_new)
                issue(t, describe(t), "expected one tensor of this meaning, " + at->second->name + " is the same");
        }
    }

    ModelWeights load() {
        auto visit = [&](const std::string& name, Param& p, const Shape& shape, Storage storage) {
            throw_if_stopped(stop_);
            fill(name, p, shape, storage);
        };
        trunk_roles(w_, config_, visit);
        const bool has_mtp =
            std::any_of(by_name_.begin(), by_name_.end(), [](const auto& e) { return e.first.starts_with("mtp."); });
        if (has_mtp)
            mtp_roles(w_, config_, visit);
        else if (config_.n_mtp_layers > 0)
            w_.warnings.push_back(
                "num_nextn_predict_layers is " + std::to_string(config_.n_mtp_layers) +
                " but the files hold no mtp.* tensors (transformers drops them): no speculative decoding");
        add_misspelt();
        for (const MappedFile* f : files()) f->check_unchanged();  // what was read may have been zeros: that explains more
        throw_if_any(issues_);
        finish();
        return std::move(w_);
    }

  private:
    void issue(const RawTensor& t, std::string value, std::string expected) {
        issues_.push_back({t.file->path(), t.name, std::move(value), std::move(expected), ""});
    }
    static std::string describe(const RawTensor& t) {
        return std::string(dtype_name(t.dtype)) + " " + shape_text(t.shape);
    }

    const RawTensor* find(const std::string& name) {
        const auto at = by_name_.find(name);
        if (at == by_name_.end()) return nullptr;
        used_.insert(at->second);
        return at->second;
    }

    void fill(const std::string& name, Param& p, const Shape& shape, Storage storage) {
        if (storage == Storage::expert && fill_from_fused(name, p, shape)) return;
        const RawTensor* t = find(name);
        const std::string expected = allowed(storage) + shape_text(dims(shape)) + ", by config.json";
        if (!t) {
            issues_.push_back({folder_, name, "(missing)", "expected " + expected, ""});
            return;
        }
        const bool is_fp4 = storage == Storage::expert && t->dtype == DType::i8;
        const bool is_fp8 = (storage == Storage::expert || storage == Storage::matrix) && t->dtype == DType::f8_e4m3;
        const bool is_table = storage == Storage::table && (t->dtype == DType::i64 || t->dtype == DType::i32);
        const bool dtype_fits = storage == Storage::table ? is_table : is_float(t->dtype) || is_fp8 || is_fp4;
        std::vector<int64_t> stored = dims(shape);
        if (is_fp4) stored[1] /= 2;
        if (!dtype_fits || t->shape != stored || (is_fp4 && shape[1] % 2))
            return issue(*t, describe(*t), "expected " + expected);
        set_view(p, *t, shape, t->data);
        if (is_fp4) p.view.dtype = DType::fp4_e2m1;
        if (is_fp8 || is_fp4) attach_scale(name, *t, p, is_fp4);
        if (storage == Storage::plain && (t->bytes <= kScanned || name.find("hc_") != std::string::npos))
            warn_if_not_finite(p);
        if (is_table) check_table(*t, p);
    }

    // A view of the mapping; a copy only where the file has put the tensor at an address its type can't be read from.
    void set_view(Param& p, const RawTensor& t, const Shape& shape, const std::byte* data) {
        p.name = t.name;
        p.shape = shape;
        p.owner = t.file;
        p.view.data = data;
        p.view.dtype = t.dtype;
        p.view.out = shape.rank == 2 ? shape[0] : 1;
        p.view.in = shape.rank == 2 ? shape[1] : shape[0];
        p.view.data = aligned(p, data, t.dtype, p.view.bytes());
    }
    static const void* aligned(Param& p, const std::byte* data, DType dtype, uint64_t bytes) {
        if (reinterpret_cast<uintptr_t>(data) % (dtype_bits(dtype) / 8) == 0) return data;
        struct Both {
            std::shared_ptr<const void> file;
            std::unique_ptr<std::byte[]> copy;
        };
        auto both = std::make_shared<Both>(Both{p.owner, std::make_unique<std::byte[]>(bytes)});
        std::memcpy(both->copy.get(), data, bytes);
        const void* copy = both->copy.get();
        p.owner = std::move(both);
        return copy;
    }

    void attach_scale(const std::string& name, const RawTensor& t, Param& p, bool is_fp4) {
        p.view.block_rows = is_fp4 ? 1 : 128;
        p.view.block_cols = is_fp4 ? 32 : 128;
        const std::vector<int64_t> grid = {(p.view.out + p.view.block_rows - 1) / p.view.block_rows,
                                           (p.view.in + p.view.block_cols - 1) / p.view.block_cols};
        const std::string scale_name = name.substr(0, name.size() - std::string_view("weight").size()) + "scale";
        const RawTensor* s = find(scale_name);
        const std::string expected = std::string(is_fp4 ? "expected F8_E8M0 " : "expected F8_E8M0 or F32 ") +
                                     shape_text(grid) + ", the block scales of " + t.name;
        if (!s) {
            issues_.push_back({t.file->path(), scale_name, "(missing)", expected, ""});
            return;
        }
        scales_.insert(s);
        const bool dtype_fits = s->dtype == DType::f8_e8m0 || (!is_fp4 && s->dtype == DType::f32);
        if (!dtype_fits || s->shape != grid) return issue(*s, describe(*s), expected);
        p.view.scale_dtype = s->dtype;
        p.view.scale = aligned(p, s->data, s->dtype, s->bytes);
        if (s->file != t.file)
            p.owner =
                std::make_shared<std::pair<std::shared_ptr<const void>, std::shared_ptr<const void>>>(p.owner, s->file);
        if (name.find(".experts.") != std::string::npos) return;  // too many bytes to read before the first token
        int64_t bad = 0;
        const auto n = static_cast<int64_t>(s->bytes / (dtype_bits(s->dtype) / 8));
        for (int64_t i = 0; i < n; ++i) {
            float f;
            if (s->dtype == DType::f32)
                std::memcpy(&f, static_cast<const char*>(p.view.scale) + 4 * i, 4);
            else
                f = cpu::e8m0_to_f32(static_cast<const uint8_t*>(p.view.scale)[i]);
            bad += !std::isfinite(f);
        }
        if (bad)
            w_.warnings.push_back(s->name + ": " + std::to_string(bad) + " of " + std::to_string(n) +
                                  " scales are NaN or infinite");
    }

    // layers.N.ffn.experts.gate_up [E, 2I, d] (gate rows first) and .down [E, d, I]: an expert is a range of their
    // rows.
    bool fill_from_fused(const std::string& name, Param& p, const Shape& shape) {
        const size_t experts = name.find(".experts.") + std::string_view(".experts.").size();
        const bool is_down = name.find(".w2.", experts) != std::string::npos,
                   is_up = name.find(".w3.", experts) != std::string::npos;
        const RawTensor* t = find(name.substr(0, experts) + (is_down ? "down" : "gate_up"));
        if (!t) return false;
        const int64_t rows = is_down ? shape[0] : 2 * shape[0];
        const std::vector<int64_t> fused = {config_.n_experts, rows, shape[1]};
        if (!is_float(t->dtype) || t->shape != fused) {
            if (fused_told_.insert(t).second)
                issue(*t, describe(*t), "expected F32, F16 or BF16 " + shape_text(fused) + ", by config.json");
            return true;
        }
        const int64_t expert = std::stoll(name.substr(experts));  // our own name: a number
        const int64_t first = expert * rows + (is_up ? shape[0] : 0);
        set_view(p, *t, shape, t->data + first * shape[1] * static_cast<int64_t>(dtype_bits(t->dtype) / 8));
        p.name = t->name + "[" + std::to_string(expert) + "]" + (is_down ? "" : is_up ? ".up" : ".gate");
        return true;
    }

    void warn_if_not_finite(const Param& p) {
        const WeightScan s = scan_param(p);
        if (s.n_nan + s.n_inf)
            w_.warnings.push_back(p.name + ": " + std::to_string(s.n_nan) + " NaN and " + std::to_string(s.n_inf) +
                                  " infinite of " + std::to_string(s.n_values) + " values");
    }

    // An expert that a row names twice is used twice, as the published implementations do.
    void check_table(const RawTensor& t, const Param& p) {
        int64_t wrong = 0, repeated = 0, first = -1;
        std::vector<int64_t> row(static_cast<size_t>(p.view.in));
        for (int64_t v = 0; v < p.view.out; ++v) {
            bool bad = false, same = false;
            for (size_t k = 0; k < row.size(); ++k) {
                const int64_t i = v * p.view.in + static_cast<int64_t>(k);
                row[k] = t.dtype == DType::i64 ? static_cast<const int64_t*>(p.view.data)[i]
                                               : static_cast<const int32_t*>(p.view.data)[i];
                bad = bad || row[k] < 0 || row[k] >= config_.n_experts;
                const auto here = row.begin() + static_cast<ptrdiff_t>(k);
                same = same || std::find(row.begin(), here, row[k]) != here;
            }
            wrong += bad, repeated += same;
            if (first < 0 && bad) first = v;
        }
        if (wrong)
            return issue(t, "wrong in " + std::to_string(wrong) + " rows, the first is that of token " + std::to_string(first),
                         "expected experts in [0, " + std::to_string(config_.n_experts - 1) + "]");
        if (repeated)
            w_.warnings.push_back(t.name + ": " + std::to_string(repeated) + " of " + std::to_string(p.view.out) +
                                  " rows name an expert twice: its output counts twice");
    }

    // A missing tensor may be there under a name we don't know.
    void add_misspelt() {
        std::vector<std::string> strangers;
        for (const auto& [name, t] : by_name_)
            if (!used_.count(t) && strangers.size() < 200) strangers.push_back(name);
        if (strangers.empty() || issues_.size() > 20) return;
        for (Issue& i : issues_) {
            if (i.value != "(missing)") continue;
            const std::string near = nearest_name(i.key, strangers);
            if (!near.empty()) i.expected += "; found " + by_name_.at(near)->name;
        }
    }

    std::set<const MappedFile*> files() const {
        std::set<const MappedFile*> all;
        for (const auto& [name, t] : raw_) all.insert(t.file.get());
        return all;
    }

    void finish() {
        const ParamCount n_params = count_params(config_);
        w_.n_params = n_params.total, w_.n_active_params = n_params.active;
        size_t n_unknown = 0;
        for (const auto& [name, t] : raw_) {
            const bool in_use = used_.count(&t) != 0;
            if (in_use) w_.bytes += t.bytes;
            const bool is_fp4 = t.dtype == DType::i8 && in_use;
            Checked n = in_use && !scales_.count(&t) ? t.bytes * 8 / dtype_bits(t.dtype) : 0;
            if (is_fp4) n = n * 2;
            w_.tensors.push_back(
                {name, is_fp4 ? "FP4" : dtype_name(t.dtype), shape_text(t.shape), t.bytes, n.to<int64_t>()});
            if (!in_use && ++n_unknown <= 20) w_.warnings.push_back(name + ": unknown tensor, not used");
        }
        if (n_unknown > 20)
            w_.warnings.push_back("... and " + std::to_string(n_unknown - 20) + " more unknown tensors");
    }

    static constexpr uint64_t kScanned = 256 << 10;  // norms, biases, sinks: the rest waits for scan_weights
    std::string folder_;
    const ModelConfig& config_;
    const std::stop_token stop_;
    std::map<std::string, RawTensor> raw_;
    std::unordered_map<std::string, const RawTensor*> by_name_;  // by official name
    std::set<const RawTensor*> used_, scales_, fused_told_;
    std::vector<Issue> issues_;
    ModelWeights w_;
};

}  // namespace

ParamCount count_params(const ModelConfig& config) {
    ParamCount count;
    int64_t routed = 0;
    auto visit = [&](const std::string& name, Param&, const Shape& shape, Storage storage) {
        if (storage == Storage::table) return;
        count.total += shape.count();
        if (storage == Storage::expert)
            routed += shape.count();
        else if (name != "embed.weight")
            count.active += shape.count();
    };
    ModelWeights places;  // the list wants somewhere to put its params
    trunk_roles(places, config, visit);
    count.active += routed / config.n_experts * config.n_experts_per_tok;
    return count;
}

ModelWeights load_weights(const std::string& folder, const ModelConfig& config, std::stop_token stop) {
    throw_if_any(validate(config, folder));
    return Loader(folder, config, std::move(stop)).load();
}

}  // namespace vitrine
