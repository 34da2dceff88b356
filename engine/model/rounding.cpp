// One part of the weights at a time: widened, rounded, and shown from memory.
#include "engine/model/rounding.h"

#include <cmath>
#include <limits>

#include "engine/device/cpu/formats.h"
#include "engine/device/cpu/weight_formats.h"
#include "engine/model/roles.h"

namespace vitrine {
namespace {

// Of a tensor by its official name (v4-spec 7.1); everything: of none.
WeightPart part_of(const std::string& name) {
    const auto has = [&](const char* s) { return name.find(s) != std::string::npos; };
    if (name == "embed.weight") return WeightPart::embedding;
    if (name == "head.weight") return WeightPart::head;
    if (has(".ffn.gate.weight")) return WeightPart::router;
    if (has(".ffn.experts.")) return WeightPart::routed_experts;
    if (has(".ffn.shared_experts.")) return WeightPart::shared_experts;
    if (has(".attn.indexer.")) return WeightPart::indexer;
    if (has(".attn.compressor.")) return WeightPart::compressors;
    if (has(".attn.w")) return WeightPart::attention;
    return WeightPart::everything;
}

uint64_t bytes_in(NumberFormat f, int64_t rows, int64_t cols) {
    const auto blocks = [](int64_t n, int64_t size) { return (n + size - 1) / size; };
    constexpr int64_t kTile = cpu::kFp8WeightBlock, kRun = cpu::kFp4WeightBlock;
    switch (f) {
        case NumberFormat::bf16:
            return static_cast<uint64_t>(rows * cols * 2);
        case NumberFormat::fp8:
            return static_cast<uint64_t>(rows * cols + blocks(rows, kTile) * blocks(cols, kTile));
        case NumberFormat::fp4:
            return static_cast<uint64_t>(rows * (blocks(cols, 2) + blocks(cols, kRun)));
    }
    throw Error(ErrorKind::internal, "a number format that is not in the list");
}

void round_values(NumberFormat f, float* values, int64_t rows, int64_t cols) {
    if (f == NumberFormat::fp8)
        cpu::fp8_round_weight(values, cols, 0, rows);
    else if (f == NumberFormat::fp4)
        cpu::fp4_round_weight(values, cols, 0, rows);
    else
        for (int64_t i = 0; i < rows * cols; ++i) values[i] = cpu::round_bf16(values[i]);
}

void round_param(Param& p, NumberFormat to, RoundedWeights& sum) {
    const int64_t rows = p.view.out, cols = p.view.in;
    const auto values = std::make_shared<std::vector<float>>(static_cast<size_t>(rows * cols));
    for (int64_t r = 0; r < rows; ++r) p.widen_row(r, values->data() + r * cols);
    const std::vector<float> before = *values;
    round_values(to, values->data(), rows, cols);
    for (size_t i = 0; i < before.size(); ++i) {
        const double was = before[i], off = (*values)[i] - was;
        sum.signal += was * was, sum.noise += off * off, sum.n_changed += off != 0;
    }
    sum.n_values += rows * cols, sum.stored_bytes += p.bytes(), sum.rounded_bytes += bytes_in(to, rows, cols);
    p.view = {values->data(), nullptr, DType::f32, DType::f8_e8m0, rows, cols, 0, 0};
    p.owner = values;
}

}  // namespace

const char* weight_part_name(WeightPart p) {
    static constexpr const char* kNames[] = {"routed experts", "shared expert", "attention projections",
                                             "indexer",        "compressors",   "router",
                                             "embedding",      "head",          "everything"};
    return kNames[static_cast<int>(p)];
}

const char* number_format_name(NumberFormat f) {
    static constexpr const char* kNames[] = {"BF16", "FP8", "FP4"};
    return kNames[static_cast<int>(f)];
}

double RoundedWeights::sqnr_db() const {
    return noise > 0 ? 10 * std::log10(signal / noise) : std::numeric_limits<double>::infinity();
}

RoundedWeights round_weights(ModelWeights& weights, const ModelConfig& config, const WeightRounding& what) {
    RoundedWeights sum;
    const auto visit = [&](const std::string& name, Param& p, const Shape& shape, Storage storage) {
        const bool is_matrix = shape.rank == 2 && storage != Storage::table && !name.ends_with(".ape");
        const WeightPart part = part_of(name);
        if (is_matrix && !p.empty() && part != WeightPart::everything &&
            (what.part == part || what.part == WeightPart::everything))
            round_param(p, what.to, sum);
    };
    trunk_roles(weights, config, visit);
    return sum;
}

}  // namespace vitrine
