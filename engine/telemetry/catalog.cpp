// Every probe the engine publishes: the table behind the enum.
#include "engine/telemetry/catalog.h"

#include "engine/base/error.h"

namespace vitrine {

const ProbeInfo& probe_info(Probe p) {
    constexpr bool f = false, i = true;
    static const ProbeInfo table[] = {
#define X(id, name, shape, dtype, per_layer, base, unit, what) {#id, name, shape, dtype, per_layer, base, unit, what},
        VITRINE_PROBES(X)
#undef X
    };
    VITRINE_ASSERT(p < kProbeCount);
    return table[p];
}

ProbeSet base_probes() {
    ProbeSet s = 0;
    for (int p = 0; p < kProbeCount; ++p)
        if (probe_info(static_cast<Probe>(p)).is_base) s |= probe_bit(static_cast<Probe>(p));
    return s;
}

}  // namespace vitrine
