// What every op is handed: publishing and op names.
#include "engine/ops/ctx.h"

#include <cstring>
#include <iterator>
#include <numeric>
#include <vector>

namespace vitrine {

const char* op_kind_name(OpKind k) {
    static const char* const names[] = {"embed", "hyper-connections", "norm",   "linear", "rope", "compress",
                                        "index", "attend",            "router", "moe",    "head", "other", "optimizer"};
    return names[static_cast<int>(k)];
}

void OpTimes::clear() {
    std::memset(ms, 0, sizeof ms);
    std::memset(multiply_adds, 0, sizeof multiply_adds);
}

void Ctx::publish_later(Probe p, const Tensor& x, int rows, int cols) const {
    const bool is_index = x.dtype == DType::i32;
    const int64_t n_tokens = x.dim(0), width = static_cast<int64_t>(rows) * cols;
    if constexpr (kHasCuda)
        cuda->deliver(x, [=, l = layer](const cuda::Arrived& a, ProbeSink& sink) {
            for (int64_t t = 0; t < n_tokens; ++t) {
                const int token = static_cast<int>(t);
                if (is_index)
                    sink.put(token, p, l, a.i32() + t * width, rows, cols);
                else
                    sink.put(token, p, l, a.f32() + t * width, rows, cols);
            }
        });
}

double OpTimes::total_multiply_adds() const {
    return std::accumulate(std::begin(multiply_adds), std::end(multiply_adds), 0.0);
}

void Ctx::publish(Probe p, const Tensor& x, int rows, int cols) const {
    if constexpr (kHasCuda)
        if (cuda) return publish_later(p, x, rows, cols);
    std::vector<float> narrow;  // probes are FP32
    for (int64_t t = 0; t < x.dim(0); ++t) {
        const int token = static_cast<int>(t);
        if (x.dtype == DType::i32) {
            probes->put(token, p, layer, x.row<int32_t>(t), rows, cols);
        } else if (x.dtype == DType::f64) {
            narrow.assign(x.row<double>(t), x.row<double>(t) + rows * cols);
            probes->put(token, p, layer, narrow.data(), rows, cols);
        } else {
            probes->put(token, p, layer, x.row<float>(t), rows, cols);
        }
    }
}

}  // namespace vitrine
