// Where a forward pass first left the finite numbers.
#include "engine/train/not_finite.h"

#include <algorithm>

namespace vitrine {

ProbeSet FirstNotFinite::wanted() {
    ProbeSet all = kNoProbes;
    for (const Probe p : {kAttnHcPre, kAttnHcPost, kAttnHcComb, kAttnHcOut, kAttnOut, kMlpHcPre, kMlpHcPost, kMlpHcComb,
                          kMlpHcOut, kRouterLogits, kMlpOut, kStreams})
        all |= probe_bit(p);
    return all;
}

void FirstNotFinite::put(int token, Probe p, int layer, const float* data, int rows, int cols) {
    if (probe_ != kProbeCount) return;
    if (!std::all_of(data, data + rows * cols, [](float x) { return std::isfinite(x); }))
        probe_ = p, layer_ = layer, token_ = token;
}

std::string FirstNotFinite::text() const {
    if (probe_ == kProbeCount) return "";
    const ProbeInfo& i = probe_info(probe_);
    return "blocks." + std::to_string(layer_) + "." + i.name + " (" + i.what + ") at token " + std::to_string(token_);
}

}  // namespace vitrine
