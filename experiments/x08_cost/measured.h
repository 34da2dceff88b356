// The engine's own counters beside the formulas: bytes of a session's cache and multiply-adds of one decoded token.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/telemetry/cache_report.h"

namespace vitrine::lab {

struct Measured {
    int64_t n_tokens = 0;
    CacheReport cache;  // of a real session in the packed formats
    double entry_bytes_formula =
        0;                   // CSA and HCA entries and index keys as v4-spec 4.9 counts them, in whole blocks of 128
    double entry_bytes = 0;  // as allocated
    double counted = 0, formula = 0;  // [FLOP] of the token at position n_tokens - 1
    double ms = 0;                    // median of the last nine tokens
};

// One session of the model in `folder`, in `reference` numerics, grown to each length in turn (ascending).
std::vector<Measured> measure_engine(const std::string& folder, const std::vector<int64_t>& lengths);

}  // namespace vitrine::lab
