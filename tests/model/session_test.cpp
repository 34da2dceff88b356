// Sessions: any chunking, rollback, fork and edit give the logits of a fresh whole pass; the cache's bytes are what they say.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "tests/support/device.h"
#include "tests/support/vectors.h"

namespace vitrine {
namespace {

// flashlike: windows of 16, CSA and HCA with interpolated frequencies.
struct Fixture {
    std::unique_ptr<Engine> engine = Engine::load(test::golden_path("flashlike"), test::on_test_device());
    std::vector<int32_t> ids;
    std::vector<std::vector<float>> whole;  // logits at every position, token by token

    explicit Fixture(int n_tokens = 700) {
        const auto golden = test::int_list(test::load_arrays(test::golden_path("flashlike/golden.safetensors")).at("input_ids"));
        for (int i = 0; i < n_tokens; ++i) ids.push_back(golden[(i * 7 + i / 50) % golden.size()]);
        auto s = engine->new_session();
        for (int32_t id : ids) {
            s->append({&id, 1});
            whole.emplace_back(s->logits().begin(), s->logits().end());
        }
    }
    double distance(Session& s) const {  // from the whole pass, at the session's last token
        const auto& want = whole.at(s.length() - 1);
        double d = 0;
        for (size_t i = 0; i < want.size(); ++i) d = std::max<double>(d, std::abs(want[i] - s.logits()[i]));
        return d;
    }
    std::span<const int32_t> part(int64_t begin, int64_t end) const { return std::span(ids).subspan(begin, end - begin); }
};

Fixture& fixture() {
    static Fixture f;
    return f;
}

TEST(Session, AnyChunkingGivesTheSameLogits) {
    Fixture& f = fixture();
    double worst = 0;
    for (int64_t chunk : {1, 2, 3, 4, 5, 7, 16, 17, 31, 64, 100, 128, 255, 256, 700}) {
        auto s = f.engine->new_session();
        for (int64_t at = 0; at < 700; at += chunk) {
            s->append(f.part(at, std::min<int64_t>(at + chunk, 700)));
            worst = std::max(worst, f.distance(*s));
        }
    }
    std::printf("largest difference between chunkings: %.2g\n", worst);
    EXPECT_LE(worst, 1e-4);
}

TEST(Session, RollbackToAnyPositionThenGoingOn) {
    Fixture& f = fixture();
    double worst = 0;
    for (int64_t back : {0, 1, 2, 3, 4, 5, 15, 16, 17, 127, 300, 511, 512, 599, 600, 636, 660, 698, 699}) {
        auto s = f.engine->new_session();
        s->append(f.part(0, 700));
        s->rewind(back);
        ASSERT_EQ(s->length(), back);
        if (back > 0) worst = std::max(worst, f.distance(*s));
        for (int64_t t = back; t < std::min<int64_t>(back + 40, 700); ++t) {
            s->append(f.part(t, t + 1));
            worst = std::max(worst, f.distance(*s));
        }
        EXPECT_TRUE(s->cache_report().is_consistent());
    }
    EXPECT_LE(worst, 1e-4);
}

// Another continuation in between leaves nothing behind: window rows, compressor rows, entries, index keys.
// Going back left rows of later positions in the rings; a state that is kept soon after takes them along.
TEST(Session, AStateKeptAfterGoingBackKnowsWhichRowsItHas) {
    Fixture f(1100);
    auto s = f.engine->new_session();
    s->append(f.part(0, 1000));
    s->rewind(430);
    s->append(f.part(430, 440));
    s->keep_state();
    s->append(f.part(440, 1100));
    s->rewind(440);
    EXPECT_LE(f.distance(*s), 1e-4);
    s->rewind(380);
    s->append(f.part(380, 381));
    EXPECT_LE(f.distance(*s), 1e-4);
}

TEST(Session, RejectedDraftsLeaveNoTrace) {
    Fixture& f = fixture();
    auto s = f.engine->new_session();
    s->append(f.part(0, 333));
    const std::vector<int32_t> other(60, 5);
    for (int64_t t = 333; t < 460; ++t) {
        s->append(std::span(other).subspan(0, 1 + (t * 13) % 59));
        s->rewind(t);
        s->append(f.part(t, t + 1));
        ASSERT_LE(f.distance(*s), 1e-4) << "token " << t;
    }
}

TEST(Session, ForksAreIndependent) {
    Fixture& f = fixture();
    auto a = f.engine->new_session();
    a->append(f.part(0, 401));
    auto b = a->fork();
    const std::vector<int32_t> other(150, 9);
    b->append(other);
    a->append(f.part(401, 520));
    EXPECT_LE(f.distance(*a), 1e-4);
    b->rewind(401);
    b->append(f.part(401, 430));
    EXPECT_LE(f.distance(*b), 1e-4);
    EXPECT_TRUE(a->cache_report().is_consistent());
    EXPECT_TRUE(b->cache_report().is_consistent());
}

TEST(Session, AnEditedTurnReusesTheLongestCommonPrefix) {
    Fixture& f = fixture();
    auto s = f.engine->new_session();
    std::vector<int32_t> first(f.ids.begin(), f.ids.begin() + 690);
    for (int i = 60; i < 690; ++i) first[i] = (first[i] + 1) % 257;
    s->append(std::span(first).subspan(0, 40));  // the earlier turn
    s->keep_state();
    s->append(std::span(first).subspan(40));
    s->keep_state();
    // The CPU's rings have moved past 60, the turn's state is there; a GPU's are longer.
    const int64_t kept = s->reuse_prefix(f.part(0, 500));
    EXPECT_EQ(kept, f.engine->device() == kCpu ? 40 : 60);
    s->append(f.part(kept, 500));
    EXPECT_LE(f.distance(*s), 1e-4);
    EXPECT_EQ(s->reuse_prefix(f.part(0, 480)), 479);  // within the rings; one token is always left to feed
    s->append(f.part(479, 500));
    EXPECT_LE(f.distance(*s), 1e-4);
}

TEST(Session, CancelLeavesTheSessionAtAWholeChunk) {
    Fixture& f = fixture();
    if (f.engine->device() != kCpu) GTEST_SKIP() << "a GPU takes this text in one chunk";
    auto s = f.engine->new_session();
    std::stop_source stop;
    EXPECT_THROW(s->append(f.part(0, 700), stop.get_token(), [&](int64_t done) { if (done >= 512) stop.request_stop(); }), Error);
    EXPECT_EQ(s->length(), 512);
    EXPECT_TRUE(s->cache_report().is_consistent());
    s->append(f.part(512, 700));
    EXPECT_LE(f.distance(*s), 1e-4);
}

TEST(Session, ThreadsDoNotChangeTheBits) {
    Fixture& f = fixture();
    std::vector<std::vector<float>> logits;
    for (int threads : {1, 2, 3}) {
        auto engine = Engine::load(test::golden_path("flashlike"), test::on_test_device({.n_threads = threads}));
        auto s = engine->new_session();
        s->append(f.part(0, 333));
        s->append(f.part(333, 334));
        logits.emplace_back(s->logits().begin(), s->logits().end());
    }
    EXPECT_EQ(logits[0], logits[1]);
    EXPECT_EQ(logits[0], logits[2]);
}

TEST(Session, CacheBytesEqualTheFormulaAndGrowWithUse) {
    for (Numerics n : {Numerics::exact, Numerics::reference}) {
        auto engine = Engine::load(test::golden_path("flashlike"), test::on_test_device({.numerics = n}));
        auto s = engine->new_session();
        uint64_t before = s->cache_report().total();
        for (int i = 0; i < 3; ++i) {
            s->append(fixture().part(i * 200, i * 200 + 200));
            const CacheReport r = s->cache_report();
            EXPECT_TRUE(r.is_consistent());
            EXPECT_GE(r.total(), before);
            before = r.total();
        }
    }
}

TEST(Session, BadIdsAndFullContextAreRefusedBeforeAnythingIsFed) {
    auto engine = Engine::load(test::golden_path("flashlike"), test::on_test_device({.max_context = 100}));
    auto s = engine->new_session();
    const std::vector<int32_t> bad{1, 2, 257};
    EXPECT_THROW(s->append(bad), Error);
    EXPECT_EQ(s->length(), 0);
    EXPECT_THROW(s->append(fixture().part(0, 101)), Error);
    EXPECT_EQ(s->length(), 0);
    s->append(fixture().part(0, 100));
    EXPECT_THROW(s->append(fixture().part(0, 1)), Error);
}

// Counts the experts of each layer that the router publishes.
struct ChosenCount : ProbeSink {
    std::map<int, int> by_layer;
    void put(int, Probe, int, const float*, int, int) override {}
    void put(int, Probe, int layer, const int32_t*, int, int cols) override { by_layer[layer] = cols; }
};

TEST(Session, active_experts_are_as_many_as_asked_for) {
    const std::string folder = test::golden_path("flashlike");
    const auto logits = [&](int k, ChosenCount* count = nullptr) {
        EngineOptions options;
        options.active_experts = k;
        const auto engine = Engine::load(folder, options);
        engine->watch().set(probe_bit(kRouterIndices));
        const auto s = engine->new_session();
        if (count) s->publish_to(count);
        s->append(fixture().part(0, 40));
        return std::vector<float>(s->logits().begin(), s->logits().end());
    };
    const ModelConfig& c = fixture().engine->config();
    const std::vector<float> trained = logits(0);
    EXPECT_EQ(logits(c.n_experts_per_tok), trained);
    EXPECT_NE(logits(1), trained);
    ChosenCount count;
    EXPECT_NE(logits(c.n_experts, &count), trained);
    for (int l = 0; l < c.n_layers(); ++l)
        EXPECT_EQ(count.by_layer[l], c.layers[l].is_hash_routed ? c.n_experts_per_tok : c.n_experts) << l;
    for (const int k : {-1, c.n_experts + 1}) EXPECT_THROW(logits(k), Error);
}

// The tokens that something is published for, in the order in which it comes.
struct TokenOrder : ProbeSink {
    std::vector<int> tokens;
    void put(int token, Probe, int, const float*, int, int) override { add(token); }
    void put(int token, Probe, int, const int32_t*, int, int) override { add(token); }
    void add(int token) {
        if (tokens.empty() || tokens.back() != token) tokens.push_back(token);
    }
};

// A session that records with records lagging beside one whose records are on time.
struct Lagging {
    std::unique_ptr<Engine> engine = Engine::load(test::golden_path("flashlike"), test::on_test_device());
    std::unique_ptr<Session> session = engine->new_session(), plain = engine->new_session();
    std::shared_ptr<Trace> trace = std::make_shared<Trace>(), on_time = std::make_shared<Trace>();

    Lagging() {
        engine->watch().set(base_probes());
        session->record_to(trace, 1), plain->record_to(on_time, 1);
        session->let_records_lag(true);
    }
    void append(int64_t begin, int64_t end) {
        for (int32_t id : fixture().part(begin, end)) session->append({&id, 1}), plain->append({&id, 1});
    }
    bool is_there(int64_t position) const { return trace->get(1, position) != nullptr; }
    void expect_the_same() const {
        for (int64_t t = 0; t < plain->length() + 2; ++t) {
            const auto got = trace->get(1, t), want = on_time->get(1, t);
            ASSERT_EQ(got != nullptr, t < plain->length()) << t;
            ASSERT_EQ(got != nullptr, want != nullptr) << t;
            if (!got) continue;
            EXPECT_EQ(got->serialize(), want->serialize()) << t;
        }
    }
};

TEST(Session, RecordsThatLagComeWithTheNextTokenAndAtTheEnd) {
    Lagging f;
    f.session->append(fixture().part(0, 20)), f.plain->append(fixture().part(0, 20));
    EXPECT_TRUE(f.is_there(19));  // a chunk's are on time
    const int32_t id = fixture().ids[20];
    f.session->append({&id, 1});
    EXPECT_FALSE(f.is_there(20));
    f.session->append({&fixture().ids[21], 1});
    EXPECT_TRUE(f.is_there(20));
    EXPECT_FALSE(f.is_there(21));
    f.session->let_records_lag(false);
    EXPECT_TRUE(f.is_there(21));
    for (int32_t next : fixture().part(20, 22)) f.plain->append({&next, 1});
    f.expect_the_same();
}

TEST(Session, RecordsThatLagGoWithARewindAndStayWithACancel) {
    Lagging f;
    f.append(0, 30);
    f.session->rewind(25), f.plain->rewind(25);  // within what lags and what doesn't
    f.expect_the_same();
    f.append(25, 28);
    f.session->rewind(27), f.plain->rewind(27);  // only what lags
    f.append(27, 33);
    std::stop_source stop;
    stop.request_stop();
    EXPECT_THROW(f.session->append(fixture().part(33, 34), stop.get_token()), Error);
    const auto edited = fixture().part(0, 31);
    EXPECT_EQ(f.session->reuse_prefix(edited), f.plain->reuse_prefix(edited));
    f.append(30, 32);
    f.session->let_records_lag(false);
    f.expect_the_same();
}

TEST(Session, RecordsThatLagKeepTheirOrderAndTheirSession) {
    Lagging f;
    TokenOrder order;
    f.session->record_to(nullptr, 0);
    f.session->publish_to(&order);
    auto other = f.engine->new_session();
    auto others = std::make_shared<Trace>();
    other->record_to(others, 7);
    other->let_records_lag(true);
    std::vector<int> want;
    for (int t = 0; t < 12; ++t) {
        const int32_t id = fixture().ids[t];
        f.session->append({&id, 1});
        other->append({&id, 1});
        want.push_back(t);
    }
    EXPECT_EQ(order.tokens, want);          // the last one came with the other session's pass
    f.session->publish_to(nullptr);
    other.reset();                          // its last record isn't lost
    for (int t = 0; t < 12; ++t) EXPECT_TRUE(others->get(7, t)) << t;
}

}  // namespace
}  // namespace vitrine
