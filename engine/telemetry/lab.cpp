// Names of the lab's plain data.
#include "engine/telemetry/lab.h"

namespace vitrine {

const char* lab_badge_name(LabBadge b) {
    static constexpr const char* kNames[] = {"natural", "provoked", "weights edited", "analytic"};
    return kNames[static_cast<int>(b)];
}

}  // namespace vitrine
