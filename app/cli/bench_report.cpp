// How bench prints.
#include "app/cli/bench_report.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "app/cli/common.h"
#include "engine/base/json.h"

namespace vitrine::cli {
namespace {

void add(std::string& s, const char* format, ...) __attribute__((format(printf, 2, 3)));
void add(std::string& s, const char* format, ...) {
    char b[256];
    va_list args;
    va_start(args, format);
    std::vsnprintf(b, sizeof b, format, args);
    va_end(args);
    s += b;
    s += '\n';
}

void put(Json& root, const std::string& key, const Json& value) {
    root.set(key, value);
    const size_t dot = key.find('.');
    if (dot == std::string::npos) return;
    const Json* group = root.find(key.substr(0, dot));
    Json g = group ? *group : Json::object();
    g.set(key.substr(dot + 1), value);
    root.set(key.substr(0, dot), std::move(g));
}

}  // namespace

double BenchReport::read_gb_per_s() const {
    std::vector<double> v = read_slices;
    std::sort(v.begin(), v.end());
    return v.empty() ? 0 : v[v.size() / 2];
}

std::array<double, 3> BenchReport::read_share() const {
    if (gpu != kCpu && !read_slices.empty()) {  // not taken in turn: one share for the run
        const double share = decode_gb_per_s() / read_slices[0];
        return {share, share, share};
    }
    std::vector<double> v;
    for (size_t i = 0; i < decode_slices.size(); ++i)
        v.push_back(decode_slices[i] * bytes_per_token * 2e-9 / (read_slices[i] + read_slices[i + 1]));
    std::sort(v.begin(), v.end());
    if (v.empty()) return {};
    return {v[v.size() / 4], v[v.size() / 2], v[v.size() * 3 / 4]};
}

std::string to_text(const BenchReport& r) {
    std::string s;
    const std::string where = r.gpu == kCpu ? r.kernels + ", " + std::to_string(r.n_threads) + " threads" : r.device;
    add(s, "model      %s, %s, %s", r.model.c_str(), r.numerics.c_str(), where.c_str());
    add(s, "prefill    %8.1f tokens/s over %lld tokens", r.prefill_tokens_per_s,
        static_cast<long long>(r.prefill_tokens));
    add(s, "decode     %8.1f tokens/s at context %lld, %lld tokens (%lld different), logits included, drawing not",
        r.decode_tokens_per_s, static_cast<long long>(r.decode_context), static_cast<long long>(r.decode_tokens),
        static_cast<long long>(r.n_different_tokens));
    add(s, "           %s of weights per token, %s touched in all; cache %s", human_bytes(r.bytes_per_token).c_str(),
        human_bytes(static_cast<double>(r.distinct_bytes)).c_str(), human_bytes(r.cache_bytes).c_str());
    const auto share = r.read_share();
    if (r.gpu != kCpu) {
        add(s, "copying    %8.1f GB/s within the GPU's memory, read and written; decoding reads weights at %.1f GB/s:",
            r.read_gb_per_s(), r.decode_gb_per_s());
        add(s, "           %.0f %% of it", 100 * share[1]);
    } else {
        add(s, "reading    %8.1f GB/s of memory (%s read, in turn with decoding); decoding reads weights at %.1f GB/s:",
            r.read_gb_per_s(), human_bytes(static_cast<double>(r.read_bytes)).c_str(), r.decode_gb_per_s());
        add(s, "           %.0f %% of it, median of %d slices, half of them in [%.0f, %.0f]", 100 * share[1],
            static_cast<int>(r.decode_slices.size()), 100 * share[0], 100 * share[2]);
    }
    add(s, "watching   %8.2f %% of a token's time, median of %d alternating runs, 95 %% interval [%.2f, %.2f]",
        r.watching.percent, r.watching.n_pairs, r.watching.low, r.watching.high);
    add(s, "           %8.2f %% in the Attention view, which watches most, interval [%.2f, %.2f]", r.watching_most.percent,
        r.watching_most.low, r.watching_most.high);
    add(s, "unwatched  %8.4f %%: at most %lld checks per token of %.2f ns", r.unwatched_cost_percent(),
        static_cast<long long>(r.checks_per_token), r.check_ns);
    add(s, "cancel     %8.1f ms median, %.1f ms at most, %d stops at random times of a prefill", r.cancel_median_ms,
        r.cancel_max_ms, r.n_cancels);
    return s;
}

std::string to_json(const BenchReport& r) {
    Json j = Json::object();
    put(j, "model", r.model);
    put(j, "numerics", r.numerics);
    put(j, "device", r.device);
    put(j, "kernels", r.kernels);
    put(j, "threads", r.n_threads);
    put(j, "prefill.tokens", r.prefill_tokens);
    put(j, "prefill.tokens_per_s", r.prefill_tokens_per_s);
    put(j, "decode.context", r.decode_context);
    put(j, "decode.tokens", r.decode_tokens);
    put(j, "decode.different_tokens", r.n_different_tokens);
    put(j, "decode.tokens_per_s", r.decode_tokens_per_s);
    put(j, "decode.bytes_per_token", r.bytes_per_token);
    put(j, "decode.distinct_bytes", static_cast<int64_t>(r.distinct_bytes));
    put(j, "decode.cache_bytes", r.cache_bytes);
    put(j, "decode.gb_per_s", r.decode_gb_per_s());
    const auto share = r.read_share();
    put(j, "decode.read_share", share[1]);
    Json quartiles = Json::array();
    quartiles.push(share[0]);
    quartiles.push(share[2]);
    put(j, "decode.read_share_quartiles", quartiles);
    put(j, "read_gb_per_s", r.read_gb_per_s());
    put(j, "read_bytes", static_cast<int64_t>(r.read_bytes));
    put(j, "watching_cost_percent", r.watching.percent);
    Json interval = Json::array();
    interval.push(r.watching.low);
    interval.push(r.watching.high);
    put(j, "watching_cost_interval", interval);
    put(j, "watching_most_percent", r.watching_most.percent);
    Json most = Json::array();
    most.push(r.watching_most.low);
    most.push(r.watching_most.high);
    put(j, "watching_most_interval", most);
    put(j, "watching_runs", r.watching.n_pairs);
    put(j, "probe_check.per_token_at_most", r.checks_per_token);
    put(j, "probe_check.ns", r.check_ns);
    put(j, "unwatched_cost_percent", r.unwatched_cost_percent());
    put(j, "cancel.median_ms", r.cancel_median_ms);
    put(j, "cancel.max_ms", r.cancel_max_ms);
    put(j, "cancel.stops", r.n_cancels);
    return j.dump(2);
}

}  // namespace vitrine::cli
