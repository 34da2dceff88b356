// The shipped model: greedy text equals the Hugging Face implementation's, from the rendered prompt to the parsed answer.
#include <gtest/gtest.h>

#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "engine/infer/generate.h"
#include "engine/text/chat.h"
#include "engine/text/tokenizer.h"
#include "tests/support/device.h"
#include "tests/support/vectors.h"

namespace vitrine {
namespace {

std::string seedling() { return std::string(VITRINE_SOURCE_DIR) + "/assets/models/seedling"; }

Mode mode_of(const std::string& name) { return name == "high" ? Mode::high : name == "max" ? Mode::max : Mode::non_think; }

// Three prompts are longer than 128 tokens, where the 4-head indexer may tie exactly at the cut; the vectors' smallest margin
// there is 2e-5, and no tie was met.
TEST(Seedling, GreedyTextEqualsTheReference) {
    auto engine = Engine::load(seedling(), test::on_test_device());
    const Json cases = Json::parse(read_file(test::golden_path("seedling_greedy.json"), 1 << 20), "seedling_greedy.json");
    int n = 0;
    for (const Json& c : cases.items()) {
        const std::string user = c.at("user").as_string();
        const Mode mode = mode_of(c.at("mode").as_string());
        text::Message message;
        message.content = user;
        const text::Prompt prompt =
            text::encode_chat({message}, text::RenderOptions::for_mode(mode), engine->chat_format(), *engine->tokenizer());
        std::vector<int32_t> want_prompt, want;
        for (const Json& id : c.at("prompt_ids").items()) want_prompt.push_back(static_cast<int32_t>(id.as_int()));
        for (const Json& id : c.at("greedy_ids").items()) want.push_back(static_cast<int32_t>(id.as_int()));
        ASSERT_EQ(prompt.ids, want_prompt) << user;

        auto session = engine->new_session();
        GenerateRequest request{prompt.ids, {.temperature = 0, .max_new_tokens = static_cast<int>(want.size())}, mode, 0};
        std::string reasoning, content;
        const GenerateResult r = generate(*engine, *session, request,
                                          {{},
                                           [&](const TokenInfo&, const std::string& a, const std::string& b) {
                                               reasoning += a;
                                               content += b;
                                           }},
                                          {});
        EXPECT_EQ(r.output_ids, want) << user;
        if (!c.at("ended").as_bool()) continue;
        EXPECT_EQ(r.reasoning, c.at("reasoning").as_string()) << user;
        EXPECT_EQ(r.content, c.at("answer").as_string()) << user;
        EXPECT_EQ(r.stats.stop_reason, "end of text");
        ++n;
    }
    EXPECT_GE(n, 10);
}

TEST(Seedling, StopStringsEndTheAnswerAndAreCutFromIt) {
    auto engine = Engine::load(seedling(), test::on_test_device());
    text::Message message;
    message.content = "add 1172 and 269";  // answers 1441
    const auto prompt = text::encode_chat({message}, text::RenderOptions::for_mode(Mode::non_think),
                                          engine->chat_format(), *engine->tokenizer());
    for (const auto& [stop, want] : {std::pair<std::string, std::string>{"44", "1"}, {"41", "14"}, {"9", "1441"}, {"1441", ""}}) {
        auto session = engine->new_session();
        const GenerateResult r =
            generate(*engine, *session, {prompt.ids, {.temperature = 0, .stop = {stop}}, Mode::non_think, 0}, {}, {});
        EXPECT_EQ(r.content, want) << stop;
        EXPECT_EQ(r.stats.stop_reason, want == "1441" ? "end of text" : "stop string");
    }
}

TEST(Seedling, ARecordedTraceHoldsEveryBaseProbeOfEveryToken) {
    auto engine = Engine::load(seedling(), test::on_test_device());
    engine->watch().set(base_probes());
    auto trace = std::make_shared<Trace>();
    auto session = engine->new_session();
    session->record_to(trace, 3);
    const std::vector<int32_t> ids(300, 66);
    session->append(ids);
    for (int t = 0; t < 300; ++t) {
        const auto record = trace->get(3, t);
        ASSERT_TRUE(record) << t;
        for (int l = 0; l < engine->config().n_layers(); ++l) {
            const LayerConfig& layer = engine->config().layers[l];
            EXPECT_EQ(record->floats(kAttnHcComb, l).rows, 4);
            EXPECT_EQ(record->ints(kRouterIndices, l).cols, engine->config().n_experts_per_tok);
            EXPECT_EQ(record->has(kRouterMargin, l), !layer.is_hash_routed);
            EXPECT_EQ(record->has(kIndexTopk, l), layer.kind() == LayerKind::csa);
            const auto shares = record->floats(kShares, l);
            EXPECT_NEAR(shares[0] + shares[1] + shares[2], 1, 1e-5);
            EXPECT_EQ(record->has(kEntryWeights, l), layer.ratio > 0 && (t + 1) % layer.ratio == 0);
        }
        EXPECT_EQ(record->ints(kNextIds).cols, 32);
    }
    const auto copy = TokenRecord::parse(trace->get(3, 299)->serialize(), "test");
    EXPECT_EQ(copy->serialize(), trace->get(3, 299)->serialize());
}

TEST(Seedling, HistogramsCountEveryValue) {
    auto engine = Engine::load(seedling(), test::on_test_device());
    for (const char* name : {"norm.weight", "layers.0.attn.wq_a.weight"}) {
        std::string found;
        for (const TensorInfo& t : engine->info().tensors)
            if (t.name.ends_with(name)) found = t.name;
        ASSERT_FALSE(found.empty()) << name;
        const TensorHistogram h = engine->histogram(found);
        uint64_t n = 0;
        for (uint32_t c : h.counts) n += c;
        EXPECT_GT(n, 0u);
        EXPECT_LE(h.min, h.mean);
        EXPECT_GE(h.max, h.mean);
    }
    EXPECT_THROW(engine->histogram("no such tensor"), Error);
}

// As transformers reads it: without do_sample a model is greedy.
TEST(Seedling, SamplingStartsFromGenerationConfig) {
    EXPECT_EQ(Engine::load(seedling(), test::on_test_device())->info().sampling.temperature, 0);
    EXPECT_EQ(Engine::load(test::golden_path("flashlike"), test::on_test_device())->info().sampling.temperature,
              1);  // no such file
}

TEST(Seedling, EveryTokenHasItsTextToShow) {
    auto engine = Engine::load(seedling(), test::on_test_device());
    ASSERT_EQ(static_cast<int>(engine->info().vocabulary.size()), engine->config().vocab_size);
    EXPECT_EQ(engine->info().vocabulary[64], "0");
}

}  // namespace
}  // namespace vitrine
