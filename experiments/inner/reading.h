// What probes tell while a model reads tokens.
#pragma once
#include <functional>
#include <span>
#include <stop_token>
#include <vector>

#include "engine/telemetry/probes.h"

namespace vitrine {
class Engine;
class Session;
}  // namespace vitrine

namespace vitrine::inner {

// Either function may be empty; `position` counts within the tokens that are read.
struct Reader {
    ProbeSet probes = kNoProbes;
    std::function<void(int position, Probe, int layer, const float*, int n)> floats;
    std::function<void(int position, Probe, int layer, const int32_t*, int n)> ints;
};
// Feeds `ids` at the end of a session.
void read_on(Engine& engine, Session& session, std::span<const int32_t> ids, const Reader& reader,
             std::stop_token stop);
// In a session of its own.
void read(Engine& engine, const std::vector<int32_t>& ids, const Reader& reader, std::stop_token stop);

}  // namespace vitrine::inner
