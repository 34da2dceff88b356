// How curved the loss of a step's batch is where the step began (docs/TRAINING.md: sharpness).
#include <cmath>

#include "engine/train/metrics.h"
#include "engine/train/sharpness.h"
#include "engine/train/trainer.h"

namespace vitrine {
namespace {

double norm(const std::vector<double>& x) {
    double sum = 0;
    for (const double v : x) sum += v * v;
    return std::sqrt(sum);
}

void append(const Tensor& x, std::vector<double>& to) {
    with_real(x.dtype, [&](auto real) {
        const auto* values = x.as<decltype(real)>();
        to.insert(to.end(), values, values + x.count());
    });
}

}  // namespace

bool Trainer::is_sharpness_due() const { return config_.sharpness_every > 0 && step_ % config_.sharpness_every == 0; }

std::vector<double> Trainer::active_weights() {
    std::vector<double> x;
    for (size_t i = 0; i < masters_.leaves().size(); ++i)
        if (is_active(i)) append(masters_.leaves()[i].param->master, x);
    return x;
}

std::vector<double> Trainer::active_gradients() {
    std::vector<double> g;
    for (size_t i = 0; i < masters_.leaves().size(); ++i)
        if (is_active(i)) append(masters_.leaves()[i].gradient, g);
    return g;
}

void Trainer::set_active_weights(const std::vector<double>& x) {
    const double* from = x.data();
    for (size_t i = 0; i < masters_.leaves().size(); ++i) {
        if (!is_active(i)) continue;
        const Tensor& w = masters_.leaves()[i].param->master;
        with_real(w.dtype, [&](auto real) {
            using T = decltype(real);
            for (int64_t j = 0; j < w.count(); ++j) w.as<T>()[j] = static_cast<T>(*from++);
        });
    }
    masters_.changed();
}

// After the step: weights go back to where it began, and forth again, to the bit.
void Trainer::add_sharpness(const TrainBatch& batch, const Point& at, double lr, std::vector<Scalar>& scalars) {
    // Long enough for FP32 gradients (they agree with FP64's within 1e-3), short enough for the loss to be a parabola along it:
    // a direction may lie in a few scales of hyper-connections, which are 0.01.
    const double step = 1e-5 * norm(at.weights);
    const std::vector<double> after = active_weights();
    const Forced forced = at.experts.forced(model_.n_layers() + static_cast<int>(weights_->mtp.size()));
    const GradientAt gradient = [&](const std::vector<double>& x) {
        set_active_weights(x);
        gradients_of(batch, &forced);
        return active_gradients();
    };
    ScalarList out(scalars);
    const double top = largest_curvature(gradient, at.weights, at.gradient, step);
    if (!std::isnan(top)) out.add("sharpness", top), out.add("sharpness.lr", lr * top);
    if (config_.optimizer == OptimizerKind::adamw) {
        std::vector<double> scale;  // what AdamW divides by
        for (size_t i = 0; i < masters_.leaves().size(); ++i) {
            if (!is_active(i)) continue;
            const size_t first = scale.size();
            append(optimizer_.square(i), scale);
            const double correction = 1 - std::pow(config_.beta2, static_cast<double>(optimizer_.updates()[i]));
            for (size_t j = first; j < scale.size(); ++j)
                scale[j] = scale[j] > 0 ? std::sqrt(scale[j] / correction) + config_.eps : 0;  // 0: no gradient yet
        }
        const double adam = largest_curvature(gradient, at.weights, at.gradient, step, scale);
        if (!std::isnan(adam)) out.add("sharpness.adam", lr * adam);
    }
    std::vector<double> moved = after;
    double slope = 0, bend = 0;
    for (size_t i = 0; i < moved.size(); ++i) moved[i] -= at.weights[i], slope += at.gradient[i] * moved[i];
    if (slope < 0) {
        const std::vector<double> product = hessian_times(gradient, at.weights, moved, step);
        for (size_t i = 0; i < moved.size(); ++i) bend += moved[i] * product[i];
        out.add("sharpness.step", bend / (-2 * slope));
    }
    set_active_weights(after);
}

}  // namespace vitrine
