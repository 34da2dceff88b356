// Drafts by the MTP module and sequences side by side: the same bits as one token at a time, whatever is guessed, kept
// or undone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "engine/base/error.h"
#include "engine/infer/generate.h"
#include "engine/model/config.h"
#include "engine/model/init.h"
#include "engine/train/checkpoint.h"
#include "tests/support/device.h"
#include "tests/support/temp_folder.h"
#include "tests/support/vectors.h"
#include "tests/train/small_model.h"

namespace vitrine {
namespace {

// Every layer kind and an MTP module, random weights: guesses are hardly ever right.
std::string random_model(WeightsFormat format) {
    static test::TempFolder folder;
    const std::string path = folder.file(weights_format_name(format));
    if (std::filesystem::exists(path)) return path;
    ModelConfig c = test::small_model();
    c.vocab_size = 272, c.head_dim = 32, c.rope_dim = 16, c.bos_id = 257, c.eos_id = 258;
    c.layers = {{0, true}, {4, false}, {8, false}, {0, false}, {4, false}};
    init_checkpoint(c, 7, format, path);
    return path;
}

// Trained on one text, ids in a fixed order twice and then the end: guesses are often right, and answers may end after
// any round.
std::string trained_model() {
    static test::TempFolder folder;
    const std::string path = folder.file("model");
    if (std::filesystem::exists(path)) return path;
    std::string text = "[";
    for (int i = 0; i < 60; ++i) text += std::to_string(i * 7 % 30) + ",";
    std::ofstream(folder.file("ids.json")) << text << "37]";
    TrainConfig c = test::small_training();
    c.data = "tokens", c.tokens = folder.file("ids.json"), c.balance = BalanceKind::none;
    c.steps = 150, c.lr = 1e-2, c.mtp_weight = 1;
    const auto trainer = test::small_trainer(c);
    for (int i = 0; i < 150; ++i) trainer->step();
    write_model(*trainer, {}, path);
    return path;
}

std::vector<int32_t> some_ids(int64_t n, int vocab, int seed) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < n; ++i)
        ids.push_back(static_cast<int32_t>((i * i * 7 + i * 13 + seed * 31 + i / 5) % vocab));
    return ids;
}

struct Answered {
    GenerateResult result;
    std::vector<float> odds;  // probability and entropy of every token
    std::vector<float> last_logits;
    std::vector<int32_t> tokens;  // of the session
};

Answered answer(Engine& engine, Session& session, GenerateRequest request, int stop_after = -1) {
    Answered a;
    std::stop_source stop;
    a.result = generate(engine, session, request,
                        {{},
                         [&](const TokenInfo& t, const std::string&, const std::string&) {
                             a.odds.insert(a.odds.end(), {t.probability, t.entropy});
                             if (static_cast<int>(a.odds.size()) / 2 == stop_after) stop.request_stop();
                         }},
                        stop.get_token());
    a.last_logits.assign(session.logits().begin(), session.logits().end());
    a.tokens = session.tokens();
    EXPECT_TRUE(session.cache_report().is_consistent());
    return a;
}

void expect_equal(const Answered& a, const Answered& b, const std::string& what) {
    EXPECT_EQ(a.result.output_ids, b.result.output_ids) << what;
    EXPECT_EQ(a.result.content, b.result.content) << what;
    EXPECT_EQ(a.result.stats.stop_reason, b.result.stats.stop_reason) << what;
    EXPECT_EQ(a.odds, b.odds) << what;
    EXPECT_EQ(a.last_logits, b.last_logits) << what;
    EXPECT_EQ(a.tokens, b.tokens) << what;
}

TEST(Draft, TheModulesLogitsEqualTheReferences) {
    const std::string folder = test::golden_path("tiny15");
    const auto golden = test::load_arrays(test::golden_path("tiny15/golden.safetensors"));
    const std::vector<int32_t> ids = test::int_list(golden.at("input_ids"));
    const test::Array& want = golden.at("mtp.0.logits");
    const ModelConfig c = read_config(folder).config;
    const ModelWeights w = load_weights(folder, c);
    const auto n = static_cast<int64_t>(ids.size());
    Arena arena;
    Pool pool(1);
    Ctx ctx{arena, pool};
    const auto distance = [&](const Tensor& logits, int64_t t) {
        double d = 0;
        for (int64_t i = 0; i < c.vocab_size; ++i) d = std::max(d, std::abs(logits.f32()[i] - want.at(t, i)));
        return d;
    };
    // One position after the other; then the window rows alone, and the last position.
    double worst = 0;
    for (const bool is_by_position : {true, false}) {
        SequenceCache cache(c, Numerics::exact, {}, true);
        const Segment whole{&cache, 0, n, 0};
        forward(ctx, c, w, {ids, {&whole, 1}}, LogitRows::last);
        cache.length = n;
        const Segment before{&cache, 0, n - 2, 0};
        if (!is_by_position) draft_keys(ctx, c, w, {std::span(ids).subspan(1, n - 2), {&before, 1}});
        for (int64_t t = is_by_position ? 0 : n - 2; t + 1 < n; ++t) {
            const Segment one{&cache, 0, 1, t};
            worst = std::max(worst, distance(draft(ctx, c, w, {{&ids[t + 1], 1}, {&one, 1}}, false), t));
        }
    }
    std::printf("MTP logits: %.2g from the reference\n", worst);
    EXPECT_LE(worst, 2e-5);
}

TEST(Draft, GreedyAndDrawnTextAreThoseOfPlainDecoding) {
    struct Case {
        std::string folder;
        Numerics numerics;
    };
    for (const Case& c : {Case{random_model(WeightsFormat::f32), Numerics::exact},
                          Case{random_model(WeightsFormat::official), Numerics::reference},
                          Case{random_model(WeightsFormat::bf16), Numerics::reference},
                          Case{trained_model(), Numerics::exact}, Case{trained_model(), Numerics::reference}}) {
        auto engine = Engine::load(c.folder, test::on_test_device({.numerics = c.numerics}));
        const int vocab = engine->config().vocab_size;
        DraftCounts all;
        for (int n_prompt : {1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 100, 600})
            for (double temperature : {0.0, 1.0}) {
                GenerateRequest request{some_ids(n_prompt, vocab, n_prompt),
                                        {.temperature = temperature, .max_new_tokens = 60}};
                request.sampling.repetition_penalty = n_prompt == 9 ? 1.2 : 1;
                auto plain = engine->new_session();
                const Answered want = answer(*engine, *plain, request);
                for (int n_drafts : {1, 2, kMaxDrafts}) {
                    request.n_drafts = n_drafts;
                    auto session = engine->new_session(true);
                    expect_equal(
                        answer(*engine, *session, request), want,
                        c.folder + " prompt " + std::to_string(n_prompt) + " drafts " + std::to_string(n_drafts));
                    const DraftCounts now = session->draft_counts();
                    all.n_drafted += now.n_drafted, all.n_accepted += now.n_accepted;
                    EXPECT_LE(now.n_drafted, n_drafts * now.n_passes);
                }
            }
        std::printf("%lld of %lld guesses were right\n", static_cast<long long>(all.n_accepted),
                    static_cast<long long>(all.n_drafted));
        if (c.folder == trained_model()) {
            EXPECT_GT(all.n_accepted * 10, all.n_drafted);
        }
    }
}

TEST(Draft, AnswersEndWherePlainOnesDo) {
    auto engine = Engine::load(trained_model(), test::on_test_device());
    GenerateRequest request{{0, 7, 14}, {.temperature = 1}};
    const auto both = [&](const std::string& what, int stop_after = -1) {
        request.n_drafts = 0;
        auto plain = engine->new_session();
        const Answered want = answer(*engine, *plain, request, stop_after);
        for (int n_drafts : {1, 3}) {
            request.n_drafts = n_drafts;
            auto session = engine->new_session(true);
            expect_equal(answer(*engine, *session, request, stop_after), want, what);
        }
        return want.result.stats.stop_reason;
    };
    for (int n = 1; n < 12; ++n) {
        request.sampling.max_new_tokens = n, request.sampling.seed = static_cast<uint64_t>(n);
        both("length " + std::to_string(n));
    }
    request.sampling.max_new_tokens = 400;
    int n_ended = 0;
    for (uint64_t seed = 0; seed < 8; ++seed) {
        request.sampling.seed = seed;
        n_ended += both("seed " + std::to_string(seed)) == "end of text";
        EXPECT_EQ(both("stopped", 3 + static_cast<int>(seed)), "stopped");
    }
    EXPECT_GT(n_ended, 0);
    engine = Engine::load(trained_model(), test::on_test_device({.max_context = 27}));
    for (uint64_t seed = 20; seed < 24; ++seed) {
        request.sampling.seed = seed;
        both("a full context");
    }
}

TEST(Draft, StopStringsCutTheSameText) {
    auto engine = Engine::load(random_model(WeightsFormat::f32), test::on_test_device());
    GenerateRequest request{some_ids(30, 272, 2),
                            {.temperature = 1, .max_new_tokens = 120, .stop = {"a", "e", " ", "0"}}};
    for (uint64_t seed = 0; seed < 4; ++seed) {
        request.sampling.seed = seed, request.n_drafts = 0;
        auto plain = engine->new_session(), session = engine->new_session(true);
        const Answered want = answer(*engine, *plain, request);
        request.n_drafts = 2;
        expect_equal(answer(*engine, *session, request), want, "stop strings");
    }
}

// Answer, edit an earlier turn, answer again, go back anywhere, go on: a plain session does the same beside it.
TEST(Draft, GoingBackAndEditingLeaveNothingBehind) {
    for (const std::string& folder : {trained_model(), random_model(WeightsFormat::f32)}) {
        auto engine = Engine::load(folder, test::on_test_device());
        const int vocab = engine->config().vocab_size;
        auto plain = engine->new_session(), session = engine->new_session(true);
        const auto expect_same = [&](const std::string& what) {
            ASSERT_EQ(session->tokens(), plain->tokens()) << what;
            if (session->length() == 0) return;
            ASSERT_TRUE(std::ranges::equal(session->logits(), plain->logits())) << what;
            EXPECT_TRUE(session->cache_report().is_consistent());
        };
        std::vector<int32_t> prompt = some_ids(90, vocab, 4);
        for (int round = 0; round < 6; ++round) {
            GenerateRequest request{prompt,
                                    {.temperature = 1, .seed = static_cast<uint64_t>(round), .max_new_tokens = 40}};
            const Answered want = answer(*engine, *plain, request);
            request.n_drafts = 1 + round % 3;
            expect_equal(answer(*engine, *session, request), want, "round " + std::to_string(round));
            auto copy = session->fork();
            const int32_t id = 5;
            copy->append_drafting(id, 2), copy->append_drafting(id, 2);
            for (int64_t back : {1, 7, 30}) {
                const int64_t n = std::max<int64_t>(0, plain->length() - back);
                plain->rewind(n), session->rewind(n);
                expect_same("back to " + std::to_string(n));
                for (int32_t next : some_ids(9, vocab, round))
                    plain->append({&next, 1}), session->append_drafting(next, 2);
                expect_same("on from " + std::to_string(n));
            }
            prompt = plain->tokens();
            prompt[prompt.size() - 1 - static_cast<size_t>(round) * 12] ^= 1;  // the edited turn
            prompt.push_back(3);
        }
    }
}

TEST(Draft, RecordsAreThoseOfPlainDecoding) {
    auto engine = Engine::load(trained_model(), test::on_test_device());
    engine->watch().set(base_probes() | probe_bit(kNextEntropy));
    GenerateRequest request{{0, 7, 14}, {.temperature = 1, .seed = 3, .max_new_tokens = 50}};
    auto a = std::make_shared<Trace>(), b = std::make_shared<Trace>();
    auto plain = engine->new_session(), session = engine->new_session(true);
    plain->record_to(a, 1), session->record_to(b, 1);
    answer(*engine, *plain, request);
    request.n_drafts = 3;
    answer(*engine, *session, request);
    EXPECT_GT(session->draft_counts().n_accepted, 0);
    for (int64_t t = 0; t < plain->length(); ++t) {
        const auto x = a->get(1, t), y = b->get(1, t);
        ASSERT_TRUE(x && y) << t;
        for (int l = 0; l < engine->config().n_layers(); ++l) {
            EXPECT_TRUE(std::ranges::equal(x->floats(kShares, l).data, y->floats(kShares, l).data));
            EXPECT_TRUE(std::ranges::equal(x->ints(kRouterIndices, l).data, y->ints(kRouterIndices, l).data));
        }
        EXPECT_EQ(x->floats(kNextEntropy, -1)[0], y->floats(kNextEntropy, -1)[0]);
    }
    EXPECT_FALSE(b->get(1, session->length()));
}

TEST(Draft, WhatCannotDraftSaysSo) {
    auto none = Engine::load(test::golden_path("flashlike"), test::on_test_device());
    EXPECT_THROW(none->new_session(true), Error);
    auto engine = Engine::load(trained_model(), test::on_test_device());
    auto session = engine->new_session(), drafting = engine->new_session(true);
    EXPECT_NO_THROW(session->append_drafting(1, 0));
    EXPECT_THROW(session->append_drafting(1, 1), Error);
    EXPECT_THROW(drafting->append_drafting(1, kMaxDrafts + 1), Error);
    EXPECT_THROW(drafting->append_drafting(48, 1), Error);
    EXPECT_EQ(drafting->length(), 0);
}

TEST(SideBySide, EverySequenceHasTheBitsThatItHasAlone) {
    constexpr int kSequences = 19;
    for (const auto& [folder, numerics] : {std::pair{random_model(WeightsFormat::f32), Numerics::exact},
                                           std::pair{random_model(WeightsFormat::official), Numerics::reference},
                                           std::pair{random_model(WeightsFormat::bf16), Numerics::reference},
                                           std::pair{test::golden_path("flashlike"), Numerics::reference}}) {
        auto engine = Engine::load(folder, test::on_test_device({.numerics = numerics}));
        const int vocab = engine->config().vocab_size;
        std::vector<std::unique_ptr<Session>> alone, together;
        std::vector<Session*> sessions;
        for (int i = 0; i < kSequences; ++i)
            for (auto* list : {&alone, &together}) {
                list->push_back(engine->new_session());
                list->back()->append(some_ids(1 + i * 3, vocab, i));
            }
        for (auto& s : together) sessions.push_back(s.get());
        for (int step = 0; step < 30; ++step) {
            std::vector<int32_t> ids;
            for (int i = 0; i < kSequences; ++i) ids.push_back((step * 17 + i * 5) % vocab);
            Session::append_each(sessions, ids);
            for (int i = 0; i < kSequences; ++i) {
                alone[i]->append({&ids[i], 1});
                ASSERT_TRUE(std::ranges::equal(alone[i]->logits(), together[i]->logits()))
                    << folder << " " << i << " at " << step;
            }
        }
        sessions[3]->rewind(5);
        EXPECT_TRUE(sessions[3]->cache_report().is_consistent());
    }
}

TEST(SideBySide, AnswersAreThoseOfOneAtATimeAndLeaveAndJoin) {
    auto engine = Engine::load(trained_model(), test::on_test_device());
    std::vector<GenerateRequest> requests;
    for (int i = 0; i < 23; ++i)
        requests.push_back(
            {some_ids(3 + i * 5 % 70, 48, i), {.temperature = i % 2 ? 1.0 : 0.0, .max_new_tokens = 1 + i * 7 % 60}});
    std::vector<GenerateResult> alone;
    for (const auto& r : requests) {
        auto session = engine->new_session();
        alone.push_back(generate(*engine, *session, r, {}, {}));
    }
    for (int n : {1, 4, 16, 40}) {
        std::vector<int> times(requests.size());
        const auto many =
            generate_many(*engine, requests, {.n_together = n}, [&](size_t i, const GenerateResult&) { ++times[i]; });
        EXPECT_EQ(times, std::vector<int>(requests.size(), 1));
        for (size_t i = 0; i < requests.size(); ++i) {
            EXPECT_EQ(many[i].output_ids, alone[i].output_ids) << i << " of " << n;
            EXPECT_EQ(many[i].stats.stop_reason, alone[i].stats.stop_reason);
        }
    }
    std::stop_source stop;
    const auto stopped = generate_many(
        *engine, requests, {}, [&](size_t, const GenerateResult&) { stop.request_stop(); }, stop.get_token());
    EXPECT_TRUE(std::ranges::all_of(stopped, [](const auto& r) { return !r.stats.stop_reason.empty(); }));
    requests[20].prompt.clear();
    EXPECT_THROW(generate_many(*engine, requests, {}), Error);
    EXPECT_TRUE(generate_many(*engine, {}, {}).empty());
}

}  // namespace
}  // namespace vitrine
