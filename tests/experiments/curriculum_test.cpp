// The curriculum: right answers, disjoint splits, budgets, the same items from the same seeds, and the encoding of
// chat.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "engine/model/init.h"
#include "engine/train/data/data.h"
#include "experiments/curriculum/bpe_trainer.h"
#include "experiments/curriculum/domains.h"
#include "experiments/curriculum/encoder.h"
#include "experiments/curriculum/mixture.h"
#include "experiments/curriculum/source.h"
#include "experiments/curriculum/tokenizer_build.h"
#include "experiments/curriculum/wording.h"
#include "tests/support/temp_folder.h"

namespace vitrine::curriculum {
namespace {

const ModelConfig& model() {
    static const ModelConfig c = preset_config("nano");
    return c;
}

// A small tokenizer, learnt once for all tests.
const std::string& tokenizer_text() {
    static const std::string text = build_tokenizer(model(), 2048, 20000);
    return text;
}
std::shared_ptr<const text::Tokenizer> tokenizer() {
    static const auto t = text::Tokenizer::parse(tokenizer_text(), "tokenizer.json");
    return t;
}
text::ChatFormat format() {
    const Json j = Json::parse(chat_json(), "chat.json");
    return {"chat.json", {{"high", ""}, {"max", j.at("effort_prefix").at("max").as_string()}}};
}

Selection of(const std::string& domain) {
    return {.domain = domain_index(domain), .model = &model()};
}

TEST(Curriculum, the_checker_takes_every_answer_and_no_wrong_one) {
    constexpr uint64_t kItems = 100000;
    for (uint64_t i = 0; i < kItems; ++i) {
        const Selection what{.domain = static_cast<int>(i % domains().size()), .model = &model()};
        const Item item = make_item(7, i % 3 ? Split::train : Split::test, what, i);
        ASSERT_TRUE(item.accepts(item.reply)) << item.prompt << "\n" << item.reply;
        ASSERT_FALSE(item.accepts("")) << item.prompt;
        ASSERT_FALSE(item.accepts(item.reply + "7")) << item.prompt << "\n" << item.reply;
        ASSERT_FALSE(item.accepts("I " + item.reply)) << item.prompt << "\n" << item.reply;
        ASSERT_FALSE(item.prompt.empty() || item.reply.empty());
        ASSERT_EQ(item.prompt.find('{'), std::string::npos) << "a value is missing: " << item.prompt;
    }
}

TEST(Curriculum, items_are_functions_of_seed_domain_and_index) {
    for (const DomainInfo& d : domains()) {
        int n_different = 0;
        for (uint64_t i = 0; i < 200; ++i) {
            const Item a = make_item(3, Split::train, of(d.name), i), b = make_item(3, Split::train, of(d.name), i);
            EXPECT_EQ(a.prompt + a.high + a.max + a.reply, b.prompt + b.high + b.max + b.reply);
            n_different += make_item(4, Split::train, of(d.name), i).prompt != a.prompt;
        }
        EXPECT_GT(n_different, 150) << d.name;
    }
}

TEST(Curriculum, no_problem_is_in_both_splits) {
    for (const DomainInfo& d : domains())
        for (const Skill& s : d.skills()) {
            Selection what = of(d.name);
            what.skill = &s;
            std::set<uint64_t> trained, tested;
            for (uint64_t i = 0; i < 300; ++i) {
                const Item a = make_item(1, Split::train, what, i), b = make_item(2, Split::test, what, i);
                if (a.level >= s.first_split_level) trained.insert(a.problem);
                if (b.level >= s.first_split_level) tested.insert(b.problem);
            }
            for (uint64_t p : tested) EXPECT_FALSE(trained.count(p)) << d.name << " " << s.name;
        }
}

TEST(Curriculum, thinking_stays_within_its_budgets) {
    CachedEncoder encoder(*tokenizer());
    const auto n_tokens = [&](const std::string& s) {
        std::vector<int32_t> ids;
        encoder.append(s, ids);
        return ids.size();
    };
    for (uint64_t i = 0; i < 30000; ++i) {
        const Selection what{.domain = static_cast<int>(i % domains().size()), .model = &model()};
        const Item item = make_item(11, Split::train, what, i);
        EXPECT_LE(n_tokens(item.high), 96u) << item.skill << " " << item.level << "\n" << item.high;
        EXPECT_LE(n_tokens(item.max), std::string_view(item.skill) == "countdown" ? 512u : 384u)
            << item.skill << " " << item.level << "\n" << item.max;
        EXPECT_LT(item.high.size(), item.max.size()) << item.prompt;
    }
}

TEST(Curriculum, both_languages_occur_in_every_skill_and_modes_share_their_prompts) {
    for (const DomainInfo& d : domains())
        for (const Skill& s : d.skills()) {
            Selection what = of(d.name);
            what.skill = &s;
            int n_chinese = 0;
            for (uint64_t i = 0; i < 1000; ++i)
                n_chinese += make_item(5, Split::train, what, i).language == Language::chinese;
            EXPECT_GT(n_chinese, 250) << s.name;
        }
}

// The working of a sum ends in the answer, and slips are always taken back.
TEST(Curriculum, sums_follow_from_their_workings) {
    int n_slips = 0;
    for (const char* name : {"add", "subtract", "multiply"}) {
        Selection what = of("arithmetic");
        what.skill = &find_skill(name);
        for (uint64_t i = 0; i < 3000; ++i) {
            const Item item = make_item(13, Split::train, what, i);
            for (const std::string* working : {&item.high, &item.max}) {
                const size_t at = working->rfind('~');
                ASSERT_NE(at, std::string::npos);
                std::string digits = working->substr(at + 1, working->find_first_of(" \n", at) - at - 1);
                std::reverse(digits.begin(), digits.end());
                EXPECT_EQ(std::stoll(digits), std::abs(std::stoll(item.reply))) << item.prompt << "\n" << *working;
            }
            n_slips += item.max.find(kBack) != std::string::npos;
            EXPECT_EQ(item.high.find(kBack), std::string::npos);
        }
    }
    EXPECT_GT(n_slips, 9000 * 0.25);
    EXPECT_LT(n_slips, 9000 * 0.5);
}

TEST(Curriculum, there_are_enough_different_problems) {
    // N draws from D equally likely problems meet about N² / 2D times.
    for (const auto& [domain, skill] : {std::pair{"arithmetic", "add"}, {"arithmetic", "multiply"}}) {
        Selection what = of(domain);
        what.skill = &find_skill(skill);
        what.level = what.skill->highest;
        std::multiset<uint64_t> problems;
        for (uint64_t i = 0; i < 20000; ++i) problems.insert(make_item(17, Split::train, what, i).problem);
        const std::set<uint64_t> distinct(problems.begin(), problems.end());
        EXPECT_LE(problems.size() - distinct.size(), 10u)
            << skill << ": fewer than 10^8 distinct problems at its highest level";
    }
}

TEST(CurriculumTokenizer, digits_stand_alone_and_text_comes_back) {
    EXPECT_EQ(tokenizer()->encode("73489").size(), 5u);
    EXPECT_EQ(tokenizer()->n_ids(), 2048);
    for (const char* text : {"What is 734 plus 289?", "734加289等于多少？", "混合专家", "é ∑ 😀", "  two  spaces\n\n"})
        EXPECT_EQ(tokenizer()->decode(tokenizer()->encode(text)), text);
    EXPECT_EQ(build_tokenizer(model(), 600, 2000), build_tokenizer(model(), 600, 2000)) << "deterministic";
}

TEST(CurriculumTokenizer, merges_take_the_most_frequent_pair) {
    const auto merges = train_bpe({{"abab", 3}, {"abc", 1}, {"xx", 2}}, 10);
    ASSERT_EQ(merges.size(), 3u);  // ab: 7 times; then abab 3 times; then xx 2 times; what occurs once is left
    EXPECT_EQ(merges[0], (std::pair<std::string, std::string>("a", "b")));
    EXPECT_EQ(merges[1], (std::pair<std::string, std::string>("ab", "ab")));
    EXPECT_EQ(merges[2], (std::pair<std::string, std::string>("x", "x")));
}

TEST(CurriculumTokenizer, frequent_characters_are_whole) {
    const auto merges = train_bpe({{"多少", 2}, {"xyz", 9}}, 6, {"多", "少"});
    ASSERT_EQ(merges.size(), 6u);  // two for each character of three bytes, then xy and xyz
    EXPECT_EQ(merges[1].first + merges[1].second, "多");
    EXPECT_EQ(merges[3].first + merges[3].second, "少");
    for (const char* c : {"多", "少", "的", "是", "专", "家", "？", "。"})
        EXPECT_EQ(tokenizer()->encode(c).size(), 1u) << c;
}

TEST(CurriculumEncoder, conversations_are_encoded_as_chat_encodes_them) {
    ConversationEncoder encoder(tokenizer(), format());
    for (uint64_t i = 0; i < 6000; ++i) {
        const Selection what{.domain = static_cast<int>(i % domains().size()), .model = &model()};
        const Item a = make_item(19, Split::train, what, i), b = make_item(23, Split::train, what, i);
        const auto mode = static_cast<Mode>(i % 3);
        const EncodedConversation ours =
            encoder.encode({{a.prompt, "", a.reply}, {b.prompt, b.thinking(mode), b.reply}}, mode);
        std::vector<text::Message> messages(4);
        messages[0].content = a.prompt, messages[1].content = a.reply, messages[2].content = b.prompt,
        messages[3].content = b.reply;
        messages[1].role = messages[3].role = text::Role::assistant;
        messages[3].reasoning = b.thinking(mode);
        const text::Prompt theirs =
            text::encode_chat(messages, text::RenderOptions::for_mode(mode), format(), *tokenizer());
        ASSERT_EQ(ours.ids, theirs.ids) << theirs.text;
    }
}

class CurriculumData : public ::testing::Test {
  protected:
    CurriculumData() {
        std::ofstream(folder_.file("tokenizer.json")) << tokenizer_text();
        std::ofstream(folder_.file("chat.json")) << chat_json();
        add_task();
        config_.data = "curriculum", config_.tokenizer = folder_.path();
        config_.batch = 6, config_.sequence_length = 256;
    }
    test::TempFolder folder_;
    TrainConfig config_;
};

TEST_F(CurriculumData, batches_are_functions_of_seed_and_step_and_samples_tile_them) {
    const auto a = make_data(config_, model()), b = make_data(config_, model());
    (void)b->batch(9);
    EXPECT_EQ(a->batch(3).tokens, b->batch(3).tokens);
    EXPECT_NE(a->batch(3).tokens, a->batch(4).tokens);
    EXPECT_NE(a->batch(3).tokens, a->held_out(3).tokens);
    const TrainBatch batch = a->batch(5);
    int64_t at = 0, n_learnt = 0;
    for (const auto& s : batch.samples) {
        EXPECT_EQ(s.begin, at);
        EXPECT_EQ(batch.targets[static_cast<size_t>(s.end - 1)], -1);
        EXPECT_EQ(batch.tokens[static_cast<size_t>(s.begin)], 0) << "begins with BOS";
        at = s.end;
    }
    EXPECT_EQ(at, static_cast<int64_t>(batch.tokens.size()));
    EXPECT_LE(at, 6 * 256);
    EXPECT_GT(at, 6 * 200);
    for (size_t t = 0; t < batch.tokens.size(); ++t) {
        if (batch.targets[t] < 0) continue;
        EXPECT_EQ(batch.targets[t], batch.tokens[t + 1]);
        ++n_learnt;
    }
    config_.loss_on = LossOn::all;
    const TrainBatch all = make_data(config_, model())->batch(5);
    EXPECT_EQ(all.tokens, batch.tokens);
    const auto n_all = std::count_if(all.targets.begin(), all.targets.end(), [](int32_t t) { return t >= 0; });
    EXPECT_EQ(n_all, static_cast<int64_t>(all.tokens.size() - all.samples.size()));
    EXPECT_LT(n_learnt, n_all);
}

TEST_F(CurriculumData, shares_are_those_asked_for) {
    std::string mix = "arithmetic=30,chat=70";
    for (const DomainInfo& d : domains())
        if (mix.find(d.name) == std::string::npos) mix += "," + std::string(d.name) + "=0";
    MixtureConfig shares = mixture_from(mix, "1,0,1");
    shares.several_share = 0;  // a sample of several turns counts for the domain of the last
    Mixture mixture(shares, model(), tokenizer(), format());
    double chat = 0, all = 0, n_max = 0;
    constexpr uint64_t kSamples = 3000;
    for (uint64_t i = 0; i < kSamples; ++i) {
        const Sample s = mixture.sample(1, Split::train, i);
        EXPECT_NE(s.mode, Mode::high);
        n_max += s.mode == Mode::max;
        all += static_cast<double>(s.tokens.ids.size());
        if (s.domain() == domain_index("chat")) chat += static_cast<double>(s.tokens.ids.size());
    }
    EXPECT_NEAR(chat / all, 0.7, 0.04);
    EXPECT_NEAR(n_max / kSamples, 0.5, 0.04);
    for (const char* wrong : {"sums=3", "arithmetic", "chat=x"}) {
        config_.mix = wrong;
        EXPECT_THROW(make_data(config_, model()), Error) << wrong;
    }
}

}  // namespace
}  // namespace vitrine::curriculum
