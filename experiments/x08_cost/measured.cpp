// A real session, grown; its bytes and its operations.
#include "experiments/x08_cost/measured.h"

#include <algorithm>
#include <chrono>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "engine/engine.h"
#include "engine/ops/ctx.h"
#include "experiments/x08_cost/cost_model.h"

namespace vitrine::lab {
namespace {

constexpr int64_t kTimed = 9;    // tokens whose median time is told
constexpr int64_t kBlock = 128;  // entries are allocated in blocks of so many rows

double whole_blocks(const ModelConfig& c, int64_t n) {
    double bytes = 0;
    const auto blocks = [](int64_t rows, uint64_t row_bytes) {
        return double((rows + kBlock - 1) / kBlock * kBlock) * double(row_bytes);
    };
    for (const LayerConfig& layer : c.layers) {
        if (!layer.ratio) continue;
        bytes += blocks(n / layer.ratio, entry_row_bytes(c.head_dim, c.rope_dim, true));
        if (layer.kind() == LayerKind::csa)
            bytes += blocks(n / layer.ratio, index_key_row_bytes(c.index_head_dim, true));
    }
    return bytes;
}

}  // namespace

std::vector<Measured> measure_engine(const std::string& folder, const std::vector<int64_t>& lengths) {
    const auto engine = Engine::load(folder, {Numerics::reference, 0, 0});
    const ModelConfig& c = engine->config();
    const auto session = engine->new_session();
    const CounterRng rng(1, fnv1a64("x08"));
    const auto feed = [&](int64_t until) {
        std::vector<int32_t> ids;
        for (int64_t t = session->length(); t < until; ++t)
            ids.push_back(
                static_cast<int32_t>(rng.bits(static_cast<uint64_t>(t)) % static_cast<uint64_t>(c.vocab_size)));
        session->append(ids);
    };
    std::vector<Measured> all;
    for (const int64_t n : lengths) {
        VITRINE_ASSERT(n >= 2 && n > session->length());
        Measured m;
        m.n_tokens = n;
        std::vector<double> times;
        const int64_t first = std::max(session->length(), n - kTimed);
        if (first > session->length()) feed(first);
        OpTimes& work = engine->op_times();
        for (int64_t end = first + 1; end <= n; ++end) {
            work.clear();
            work.is_on = true;
            const auto start = std::chrono::steady_clock::now();
            feed(end);
            times.push_back(
                std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
            work.is_on = false;
        }
        std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size() / 2), times.end());
        m.ms = times[times.size() / 2];
        m.counted = 2 * work.total_multiply_adds();
        m.formula = v4_cost(c, n).raw();
        m.cache = session->cache_report();
        const auto kinds = m.cache.allocated();
        for (const CacheKind k : {CacheKind::csa_entries, CacheKind::index_keys, CacheKind::hca_entries})
            m.entry_bytes += double(kinds[static_cast<int>(k)]);
        m.entry_bytes_formula = whole_blocks(c, n);
        all.push_back(m);
    }
    return all;
}

}  // namespace vitrine::lab
