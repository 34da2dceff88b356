// A whole model on the GPU against the same model on the CPU: logits, probes, captured steps, moving between devices.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>

#include "engine/base/error.h"
#include "engine/device/cuda/device.h"
#include "engine/engine.h"
#include "engine/infer/generate.h"
#include "tests/support/collector.h"
#include "tests/support/vectors.h"

namespace vitrine {
namespace {

bool has_gpu() { return !cuda::gpus().found.empty(); }
std::vector<int32_t> some_ids(int n) {
    std::vector<int32_t> ids;
    const auto golden = test::int_list(test::load_arrays(test::golden_path("flashlike/golden.safetensors")).at("input_ids"));
    for (int i = 0; i < n; ++i) ids.push_back(golden[(i * 7 + i / 50) % golden.size()]);
    return ids;
}
double distance(std::span<const float> a, std::span<const float> b) {
    double d = 0;
    for (size_t i = 0; i < a.size(); ++i) d = std::max<double>(d, std::abs(a[i] - b[i]));
    return d;
}

TEST(CudaModel, LogitsEqualTheCpusTokenByTokenAndInChunks) {
    if (!has_gpu()) GTEST_SKIP() << cuda::gpus().why_none;
    const auto ids = some_ids(600);
    auto cpu = Engine::load(test::golden_path("flashlike"), {});
    auto gpu = Engine::load(test::golden_path("flashlike"), {.gpu = 0});
    auto a = cpu->new_session(), b = gpu->new_session(), whole = gpu->new_session();
    double worst = 0;
    for (int32_t id : ids) {
        a->append({&id, 1});
        b->append({&id, 1});
        worst = std::max(worst, distance(a->logits(), b->logits()));
    }
    whole->append(ids);
    std::printf("GPU from CPU: %.2g token by token, %.2g in one chunk\n", worst, distance(a->logits(), whole->logits()));
    EXPECT_LE(worst, 1e-3);
    EXPECT_LE(distance(a->logits(), whole->logits()), 1e-3);
}

TEST(CudaModel, EveryProbeThatTheCpuPublishesComesFromTheGpuToo) {
    if (!has_gpu()) GTEST_SKIP() << cuda::gpus().why_none;
    const auto ids = some_ids(80);
    test::Collector cpu_rows, by_token, by_chunk;
    constexpr ProbeSet kAll = (ProbeSet{1} << kProbeCount) - 1;
    const auto run = [&](int device, test::Collector& rows, int64_t chunk) {
        auto engine = Engine::load(test::golden_path("flashlike"), {.gpu = device});
        engine->watch().set(kAll);
        auto session = engine->new_session();
        session->publish_to(&rows);
        for (int64_t at = 0; at < 80; at += chunk) session->append(std::span(ids).subspan(at, std::min<int64_t>(chunk, 80 - at)));
    };
    run(kCpu, cpu_rows, 80);
    run(0, by_token, 1);
    run(0, by_chunk, 80);
    int n = 0;
    for (int p = 0; p < kProbeCount; ++p)
        for (int layer = -1; layer < 16; ++layer) {
            const std::string info = probe_info(static_cast<Probe>(p)).name;
            const std::string name = layer < 0 ? info : "blocks." + std::to_string(layer) + "." + info;
            if (!cpu_rows.has(name)) continue;
            for (const auto& [token, want] : cpu_rows.rows(name))
                for (const auto* rows : {&by_token, &by_chunk}) {
                    const auto& got = rows->row(name, token);
                    ASSERT_EQ(got.size(), want.size()) << name << " token " << token;
                    for (size_t i = 0; i < want.size(); ++i) {
                        if (!std::isfinite(want[i])) continue;
                        ASSERT_NEAR(got[i], want[i], 1e-3 * std::max(1.0, std::abs(want[i])))
                            << name << " token " << token << " value " << i;
                    }
                    ++n;
                }
        }
    EXPECT_GT(n, 5000);
}

TEST(CudaModel, MovesBetweenDevicesAndKeepsWhatItHasWhenItCannot) {
    if (!has_gpu()) GTEST_SKIP() << cuda::gpus().why_none;
    const auto ids = some_ids(100);
    auto engine = Engine::load(test::golden_path("flashlike"), {});
    auto on_cpu = engine->new_session();
    on_cpu->append(ids);
    engine->set_device(0);
    auto on_gpu = engine->new_session();
    on_gpu->append(ids);
    EXPECT_LE(distance(on_cpu->logits(), on_gpu->logits()), 1e-3);
    EXPECT_THROW(engine->set_device(99), Error);
    EXPECT_EQ(engine->device(), 0);
    engine->set_device(kCpu);
    on_gpu->append({ids.data(), 1});  // a session stays where it was made
    on_cpu->append({ids.data(), 1});
    EXPECT_LE(distance(on_cpu->logits(), on_gpu->logits()), 1e-3);
}

// draft_test runs here too (VITRINE_TEST_DEVICE); this is its short form: captured steps of the trunk and of the module by turns.
TEST(CudaModel, DraftsGiveThePlainGreedyText) {
    if (!has_gpu()) GTEST_SKIP() << cuda::gpus().why_none;
    for (const char* name : {"tiny15", "smooth15"})
        for (Numerics numerics : {Numerics::exact, Numerics::reference}) {
            auto engine = Engine::load(test::golden_path(name), {.numerics = numerics, .gpu = 0});
            GenerateRequest request{{1, 5, 9, 13}, {.temperature = 0, .max_new_tokens = 200}};
            auto plain = engine->new_session();
            const GenerateResult want = generate(*engine, *plain, request, {}, {});
            for (int n_drafts : {1, 3, 4, kMaxDrafts}) {
                request.n_drafts = n_drafts;
                auto session = engine->new_session(true);
                EXPECT_EQ(generate(*engine, *session, request, {}, {}).output_ids, want.output_ids) << name << " " << n_drafts;
                EXPECT_TRUE(std::ranges::equal(session->logits(), plain->logits())) << name << " " << n_drafts;
                const DraftCounts d = session->draft_counts();
                std::printf("%s %s: %d drafts a pass, %lld of %lld right\n", name, numerics_name(numerics), n_drafts,
                            static_cast<long long>(d.n_accepted), static_cast<long long>(d.n_drafted));
            }
        }
}

// What the module guesses depends on its own cache alone: the CPU and the GPU guess the same, but for ties.
TEST(CudaModel, TheModuleGuessesWhatItGuessesOnTheCpu) {
    if (!has_gpu()) GTEST_SKIP() << cuda::gpus().why_none;
    std::vector<int64_t> accepted;
    for (int device : {kCpu, 0}) {
        auto engine = Engine::load(test::golden_path("tiny15"), {.gpu = device});
        auto session = engine->new_session(true);
        for (int32_t i = 0; i < 600; ++i) session->append_drafting((i * i + 3 * i) % 64, 2);
        accepted.push_back(session->draft_counts().n_accepted);
    }
    EXPECT_GT(accepted[0], 0);
    EXPECT_NEAR(static_cast<double>(accepted[1]), static_cast<double>(accepted[0]), 1);
}

// n_steps tokens of n sequences of different lengths, decoded together and each alone: the same bits. With dense products: a
// logit differs by dense_bound at most.
void sequences_have_the_bits_that_they_have_alone(const std::string& folder, Numerics numerics, int n, int n_steps,
                                                  std::optional<double> dense_bound) {
    const auto ids = some_ids(300);
    auto engine = Engine::load(folder, {.numerics = numerics, .gpu = 0});
    std::vector<std::unique_ptr<Session>> alone, together;
    std::vector<Session*> sessions;
    for (int i = 0; i < n; ++i)
        for (auto* list : {&alone, &together}) {
            list->push_back(engine->new_session());
            list->back()->append(std::span(ids).subspan(i, 1 + i * 7));
        }
    for (auto& s : together) sessions.push_back(s.get());
    for (int step = 0; step < n_steps; ++step) {
        std::vector<int32_t> next;
        for (int i = 0; i < n; ++i) next.push_back(ids[(step * 17 + i * 5) % ids.size()]);
        Session::append_each(sessions, next);
        for (int i = 0; i < n; ++i) {
            alone[i]->append({&next[i], 1});
            ASSERT_TRUE(std::ranges::equal(alone[i]->logits(), together[i]->logits())) << "sequence " << i << " at " << step;
        }
    }
    if (!dense_bound) return;
    Session::append_each(sessions, std::vector<int32_t>(static_cast<size_t>(n), 3), false);
    for (int i = 0; i < n; ++i) {
        const int32_t id = 3;
        alone[i]->append({&id, 1});
        EXPECT_LE(distance(alone[i]->logits(), together[i]->logits()), *dense_bound);
    }
}

TEST(CudaModel, SequencesSideBySideHaveTheBitsThatTheyHaveAlone) {
    if (!has_gpu()) GTEST_SKIP() << cuda::gpus().why_none;
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        sequences_have_the_bits_that_they_have_alone(test::golden_path("flashlike"), numerics, 37, 20,
                                                     numerics == Numerics::exact ? 1e-3 : 1.0);
}

// BF16 weights in `reference`, in captured steps: products by copies, normed products beside appended keys, matrices made
// beside `down`. The vectors' checkpoints are F32 or packed and take other kernels.
TEST(CudaModel, Bf16SequencesSideBySideHaveTheBitsThatTheyHaveAlone) {
    if (!has_gpu()) GTEST_SKIP() << cuda::gpus().why_none;
    sequences_have_the_bits_that_they_have_alone(std::string(VITRINE_SOURCE_DIR) + "/assets/models/seedling", Numerics::reference,
                                                 16, 100, {});
}

TEST(CudaModel, WithoutAGpuTheRequestIsRefusedInOneLine) {
    if (has_gpu()) GTEST_SKIP() << "there is one";
    try {
        Engine::load(test::golden_path("flashlike"), {.gpu = 0});
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.kind(), ErrorKind::device);
        EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    }
}

}  // namespace
}  // namespace vitrine
