// The histogram of one weight tensor: two passes over its widened rows.
#include <algorithm>
#include <cmath>

#include "engine/infer/engine_impl.h"

namespace vitrine {
namespace {

constexpr int kBins = 64;

template <class F>
void for_each_value(const std::vector<const Param*>& params, F&& f) {
    for (const Param* p : params) {
        std::vector<float> row(static_cast<size_t>(p->view.in));
        for (int64_t r = 0; r < p->view.out; ++r) {
            p->widen_row(r, row.data());
            for (float x : row) f(x);
        }
    }
}

}  // namespace

TensorHistogram Engine::histogram(const std::string& tensor) const {
    TensorHistogram h;
    h.name = tensor;
    std::vector<const Param*> found;  // several: the experts of a fused tensor, "NAME[0].gate" and so on
    for_each_param(impl_->weights, [&](const Param& p) {
        const bool is_table = p.view.dtype == DType::i64 || p.view.dtype == DType::i32;
        if (!is_table && (p.name == tensor || p.name.rfind(tensor + "[", 0) == 0)) found.push_back(&p);
    });
    if (found.empty())
        throw Error(ErrorKind::bad_input,
                    "tensor \"" + escaped(tensor) + "\": expected the name of a loaded tensor of real numbers");
    double sum = 0, squares = 0;
    int64_t n = 0;
    for_each_value(found, [&](float x) {
        if (!std::isfinite(x)) {
            ++h.n_nonfinite;
            return;
        }
        h.min = n == 0 ? x : std::min<double>(h.min, x);
        h.max = n == 0 ? x : std::max<double>(h.max, x);
        sum += x;
        squares += static_cast<double>(x) * x;
        ++n;
    });
    h.counts.assign(kBins, 0);
    if (n == 0) return h;
    h.mean = sum / static_cast<double>(n);
    h.rms = std::sqrt(squares / static_cast<double>(n));
    const double width = h.max > h.min ? (h.max - h.min) / kBins : 1;
    for_each_value(found, [&](float x) {
        if (std::isfinite(x)) ++h.counts[std::min<int>(kBins - 1, static_cast<int>((x - h.min) / width))];
    });
    return h;
}

}  // namespace vitrine
