// The residual variants, and where their weights start.
#include <algorithm>
#include <charconv>

#include "engine/model/residual/residual.h"
#include "engine/ops/rmsnorm/rmsnorm.h"

namespace vitrine {

std::span<const Residual* const> residuals() {
    static const Residual* const table[] = {&kMhc, &kMhcLite, &kHyperConnections, &kPlainResidual};
    return table;
}

const Residual& residual_for(const ModelConfig& c) {
    for (const Residual* r : residuals())
        if (r->kind == c.variants.residual) return *r;
    assertion_failed("residual kind is in the table", __FILE__, __LINE__);
}

HyperSite Residual::site(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const Param& norm_D, const ModelConfig& c) const {
    if constexpr (kHasCuda)
        if (ctx.infers_on_gpu()) return cuda::hyper_site(ctx, x_TND, w, form(c, false), c.rms_norm_eps, &norm_D);
    HyperSite s = form ? hyper_site(ctx, x_TND, w, form(c, false), c.rms_norm_eps) : plain_site(ctx, x_TND);
    s.normed_TD = rmsnorm(ctx, s.u_TD, norm_D, c.rms_norm_eps);
    return s;
}

Tensor Residual::head(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const ModelConfig& c) const {
    return form ? hyper_head(ctx, x_TND, w, form(c, true), c.rms_norm_eps) : x_TND.reshaped({x_TND.dim(0), x_TND.dim(2)});
}

bool start_hyper_weight(const ModelConfig& c, const std::string& name, double alpha, double identity, std::span<float> values) {
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    if (!has("hc_")) return false;
    if (name.ends_with("_scale")) return std::fill(values.begin(), values.end(), static_cast<float>(alpha)), true;
    if (!name.ends_with("_base")) return false;
    HyperStart at{.identity = identity, .is_head = has("hc_head")};
    const size_t digits = name.find_first_of("0123456789");
    if (digits != std::string::npos) std::from_chars(name.data() + digits, name.data() + name.size(), at.site);
    if (name.starts_with("mtp.")) at.site += c.n_layers();
    at.site = 2 * at.site + has("hc_ffn");
    const Residual& residual = residual_for(c);
    VITRINE_ASSERT(values.size() == static_cast<size_t>(residual.n_rows(c, at.is_head)));
    residual.start_base(c, at, values);
    return true;
}

}  // namespace vitrine
