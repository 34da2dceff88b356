// What `vitrine bench` measured, and how it is printed.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "app/watching.h"
#include "engine/base/config/numerics.h"

namespace vitrine::cli {

struct BenchReport {
    std::string model, numerics, kernels;
    int n_threads = 0, gpu = kCpu;
    std::string device;
    int64_t prefill_tokens = 0;
    double prefill_tokens_per_s = 0;
    int64_t decode_context = 0, decode_tokens = 0, n_different_tokens = 0;
    double decode_tokens_per_s = 0;
    double bytes_per_token = 0;   // weights read for one token, mean over the decoded tokens
    uint64_t distinct_bytes = 0;  // weights touched at least once by all decoded tokens together
    double cache_bytes = 0;       // allocated at the end of decoding
    // Decoding in slices [tokens/s], and memory read before the first slice and after every one [GB/s; GB = 1e9 bytes].
    std::vector<double> decode_slices, read_slices;
    uint64_t read_bytes = 0;
    WatchingCost watching;       // the base set: every view but Attention
    WatchingCost watching_most;  // and what the Attention view adds
    int64_t checks_per_token = 0;  // an upper bound: every probe at every layer
    double check_ns = 0;
    double cancel_median_ms = 0, cancel_max_ms = 0;  // from the request to the engine's return, in prefill
    int n_cancels = 0;
    double decode_gb_per_s() const { return decode_tokens_per_s * bytes_per_token / 1e9; }
    double read_gb_per_s() const;  // median of the slices
    // What decoding reads of weights as a share of what reading alone does: quartiles over the slices, each against the mean
    // of its two neighbours.
    std::array<double, 3> read_share() const;
    // Share of a token's time that checking for watchers takes when nobody watches.
    double unwatched_cost_percent() const { return checks_per_token * check_ns * 1e-9 * decode_tokens_per_s * 100; }
};

std::string to_text(const BenchReport& r);
// Each key once flat ("decode.tokens_per_s") and once nested ({"decode": {"tokens_per_s"}}).
std::string to_json(const BenchReport& r);

}  // namespace vitrine::cli
