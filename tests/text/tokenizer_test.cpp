// Added tokens, merging against a plain reference, work that grows with the text only, and files that are refused.
#include "engine/text/tokenizer.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <array>
#include <map>
#include <set>
#include <thread>

#include "engine/text/tokenizer_impl.h"
#include "engine/text/unicode.h"
#include "tests/text/sample_text.h"
#include "tests/text/text_classes.h"

namespace vitrine::text {
namespace {

using test::text_file;

Json v4_file() {
    const std::string path = text_file("v4_tokenizer.json");
    return Json::parse(read_file(path, 1 << 22), path);
}

TEST(AddedTokens, StripOverlapAndOrderAsHuggingFace) {
    const Json expected = Json::parse(read_file(text_file("added_tokens.json"), 1 << 20), "added_tokens.json");
    Json file = v4_file();
    file.set("added_tokens", expected.at("added_tokens"));
    const auto t = Tokenizer::parse(file.dump(), "test");
    ASSERT_GE(expected.at("cases").size(), 400u);
    for (const Json& c : expected.at("cases").items()) {
        std::vector<int32_t> ids;
        for (const Json& id : c.at("ids").items()) ids.push_back(static_cast<int32_t>(id.as_int()));
        EXPECT_EQ(t->encode(c.at("text").as_string()), ids) << escaped(c.at("text").as_string());
    }
}

TEST(Tokenizer, NamesAndFlags) {
    const auto t = Tokenizer::load(text_file("v4_tokenizer.json"));
    EXPECT_EQ(t->id_of("<｜end▁of▁sentence｜>"), 1);
    EXPECT_TRUE(t->is_special(1));
    const int32_t think = t->need_id("<think>");
    EXPECT_TRUE(t->is_added(think));
    EXPECT_FALSE(t->is_special(think));
    EXPECT_EQ(t->token_bytes(think), "<think>");
    EXPECT_EQ(t->id_of("no such token"), std::nullopt);
    EXPECT_THROW(t->need_id("no such token"), Error);
    EXPECT_FALSE(t->has_token(-1));
    EXPECT_FALSE(t->has_token(t->n_ids()));
    EXPECT_EQ(t->token_bytes(t->n_ids()), "");
    EXPECT_EQ(t->decode({0, 1, -5, think}), "<｜begin▁of▁sentence｜><｜end▁of▁sentence｜><think>");
    EXPECT_EQ(t->decode({0, 1, think}, true), "<think>");
    EXPECT_EQ(t->encode(""), std::vector<int32_t>{});
}

TEST(Tokenizer, MergesAsPairsAndWholeWords) {
    Json file = v4_file();
    Json model = file.at("model"), pairs = Json::array();
    for (const Json& m : model.at("merges").items()) {
        const std::string& s = m.as_string();
        Json pair = Json::array();
        pair.push(s.substr(0, s.find(' ')));
        pair.push(s.substr(s.find(' ') + 1));
        pairs.push(pair);
    }
    model.set("merges", pairs);
    file.set("model", model);
    const auto as_pairs = Tokenizer::parse(file.dump(), "pairs"),
               as_strings = Tokenizer::load(text_file("v4_tokenizer.json"));
    const test::SampleText sample;
    for (int i = 0; i < 200; ++i) EXPECT_EQ(as_pairs->encode(sample(i)), as_strings->encode(sample(i)));
    // without merges only ignore_merges can find a whole word
    const std::string word = " function";
    const auto whole = as_strings->encode(word);
    ASSERT_EQ(whole.size(), 1u);
    model.set("merges", Json::array());
    file.set("model", model);
    EXPECT_EQ(Tokenizer::parse(file.dump(), "none")->encode(word).size(), word.size());
    model.set("ignore_merges", true);
    file.set("model", model);
    EXPECT_EQ(Tokenizer::parse(file.dump(), "whole")->encode(word), whole);
}

// The definition: again and again, the pair of lowest rank, the leftmost among equals.
std::vector<int32_t> plain_bpe(std::vector<int32_t> ids, const std::vector<Merge>& merges) {
    std::map<std::pair<int32_t, int32_t>, size_t> rank;
    for (size_t r = 0; r < merges.size(); ++r) rank[{merges[r].left, merges[r].right}] = r;
    for (;;) {
        size_t best = merges.size(), at = 0;
        for (size_t i = 0; i + 1 < ids.size(); ++i)
            if (const auto it = rank.find({ids[i], ids[i + 1]}); it != rank.end() && it->second < best)
                best = it->second, at = i;
        if (best == merges.size()) return ids;
        ids[at] = merges[best].merged;
        ids.erase(ids.begin() + at + 1);
    }
}

// Merge tables in any order, also ones that no training would give: a merge may stand before the merges that make its
// parts.
TEST(Bpe, ShortAndLongFormsFollowTheDefinition) {
    std::vector<std::string> tokens;
    for (size_t length = 1; length <= 4; ++length)
        for (int bits = 0; bits < 1 << length; ++bits) {
            std::string s;
            for (size_t k = 0; k < length; ++k) s += bits >> k & 1 ? 'b' : 'a';
            tokens.push_back(s);
        }
    std::map<std::string, int32_t> id;
    for (const auto& s : tokens) id.emplace(s, static_cast<int32_t>(id.size()));
    for (int trial = 0; trial < 100; ++trial) {
        const CounterRng rng(11, trial);
        uint64_t counter = 0;
        std::vector<Merge> merges;
        for (const auto& l : tokens)
            for (const auto& r : tokens)
                if (l.size() + r.size() <= 4 && rng.bits(counter++) % 3) merges.push_back({id[l], id[r], id[l + r]});
        for (size_t i = merges.size(); i > 1; --i) std::swap(merges[i - 1], merges[rng.bits(counter++) % i]);
        const Bpe bpe(merges);
        Bpe::Scratch scratch;
        for (size_t n : {2u, 5u, 63u, 64u, 65u, 130u}) {
            std::vector<int32_t> ids;
            for (size_t k = 0; k < n; ++k) ids.push_back(id[rng.bits(counter++) & 1 ? "a" : "b"]);
            const auto expected = plain_bpe(ids, merges);
            bpe.merge(ids, scratch);
            ASSERT_EQ(ids, expected) << "trial " << trial << ", " << n << " symbols";
        }
    }
}

// Runs on a thread with 512 KiB of stack.
template <class F>
void on_small_stack(F f) {
    pthread_attr_t small;
    pthread_attr_init(&small);
    ASSERT_EQ(pthread_attr_setstacksize(&small, 512 << 10), 0);
    pthread_t thread;
    ASSERT_EQ(pthread_create(
                  &thread, &small, [](void* p) -> void* { return (*static_cast<F*>(p))(), nullptr; }, &f),
              0);
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&small);
}

// Twice the text, at most 2.2 times the work, counted in look-ups, queue moves and code points; and few of them per
// byte.
TEST(Complexity, WorkIsLinearOnAMebibyteOfAnyClass) {
    on_small_stack([] {
        const auto t = Tokenizer::load(text_file("v4_tokenizer.json"));
        for (const auto& c : test::text_classes()) {
            EncodeStats half, whole;
            const std::string text = c.make(1 << 20);
            t->encode(std::string_view(text).substr(0, text.size() / 2), &half);
            const auto ids = t->encode(text, &whole);
            EXPECT_LE(static_cast<double>(whole.total()), 2.2 * static_cast<double>(half.total())) << c.name;
            EXPECT_LE(whole.total(), 150 * text.size()) << c.name;
            EXPECT_EQ(t->decode(ids), repaired_utf8(text)) << c.name;
        }
    });
}

// One call's buffers are the next one's: every class after every other, from several threads, as with buffers of its
// own.
TEST(KeptBuffers, LeaveNothingForTheNextText) {
    const auto shared = Tokenizer::load(text_file("v4_tokenizer.json"));
    std::vector<std::string> texts;
    std::vector<std::vector<int32_t>> expected;
    for (const auto& c : test::text_classes())
        for (size_t n : {size_t{40}, size_t{3000}}) {
            texts.push_back(c.make(n));
            expected.push_back(Tokenizer::load(text_file("v4_tokenizer.json"))->encode(texts.back()));
        }
    std::vector<std::thread> threads;
    std::array<int, 3> n_wrong{};
    for (size_t k = 0; k < n_wrong.size(); ++k)
        threads.emplace_back([&, k] {
            for (size_t i = 0; i < 4 * texts.size(); ++i) {
                const size_t at = (i * (2 * k + 7) + k) % texts.size();
                const bool with_places = i % 2 == 1;
                n_wrong[k] += expected[at] !=
                              (with_places ? shared->encode_with_places(texts[at]).ids : shared->encode(texts[at]));
            }
        });
    for (auto& t : threads) t.join();
    EXPECT_EQ(n_wrong, (std::array<int, 3>{}));
}

TEST(KeptBuffers, AreGivenBackAboveTheirBound) {
    KeptBuffers kept;
    auto buffers = kept.take();
    buffers->ids.reserve(1000);
    kept.give_back(std::move(buffers));
    buffers = kept.take();
    EXPECT_GE(buffers->held_bytes(), 4000u);
    EXPECT_LT(kept.take()->held_bytes(), 4000u);  // a call at the same time
    buffers->begin.reserve(KeptBuffers::kMaxBytes / sizeof(size_t) + 1);
    kept.give_back(std::move(buffers));
    EXPECT_LT(kept.take()->held_bytes(), 4000u);
}

std::string refusal(const Json& file) {
    try {
        Tokenizer::parse(file.dump(), "t.json");
    } catch (const Error& e) {
        EXPECT_EQ(e.kind(), ErrorKind::bad_input);
        return e.what();
    }
    return "accepted";
}

// The file with one key (a path of names and indices) replaced.
Json with(Json file, std::vector<std::string> path, Json value) {
    if (path.empty()) return value;
    const std::string first = path.front();
    path.erase(path.begin());
    if (file.is_array()) {
        Json copy = Json::array();
        for (size_t i = 0; i < file.size(); ++i)
            copy.push(std::to_string(i) == first ? with(file.items()[i], path, value) : file.items()[i]);
        return copy;
    }
    const Json* old = file.find(first);
    file.set(first, with(old ? *old : Json::object(), path, value));
    return file;
}

TEST(Refusals, NameTheKeyTheValueAndWhatWasExpected) {
    const Json file = v4_file();
    const auto json = [](const char* s) { return Json::parse(s, "test"); };
    struct Case {
        std::vector<std::string> path;
        Json value;
        std::vector<std::string> said;
    };
    const std::vector<Case> cases = {
        {{"model", "type"}, "WordPiece", {"model.type", "WordPiece", "BPE"}},
        {{"model", "byte_fallback"}, true, {"model.byte_fallback"}},
        {{"model", "dropout"}, 0.1, {"model.dropout"}},
        {{"model", "continuing_subword_prefix"}, "##", {"continuing_subword_prefix", "##"}},
        {{"model", "vocab"}, json("[]"), {"model.vocab", "an array"}},
        {{"model", "vocab", "a"}, -1, {"model.vocab[a]", "-1"}},
        {{"model", "vocab", "a"}, 0, {"two tokens have this id"}},
        {{"model", "vocab", "a"}, 1.5, {"model.vocab[a]", "1.5"}},
        {{"model", "vocab", "a"}, int64_t{1} << 22, {"model.vocab[a]", "4194303"}},
        {{"model", "vocab"}, json("{\"a\": 3}"), {"byte 0 has no token"}},
        {{"model", "merges"}, json("[\"a b c\"]"), {"model.merges[0]", "one space"}},
        {{"model", "merges"}, json("[[\"a\"]]"), {"model.merges[0]"}},
        {{"model", "merges"}, json("[\"q \u4e2d\"]"), {"model.merges[0]", "expected a token of model.vocab"}},
        {{"model", "merges"}, json("[\" b\"]"), {"model.merges[0]"}},
        {{"model", "merges"}, json("[\"t h\", \"t h\"]"), {"model.merges[1]", "earlier"}},
        {{"added_tokens", "3", "single_word"}, true, {"added_tokens[3].single_word"}},
        {{"added_tokens", "0", "id"}, 7, {"added_tokens[0].id", "expected 0"}},
        {{"added_tokens", "3", "id"}, 5, {"two tokens have this id"}},
        {{"added_tokens", "3", "content"}, "", {"added_tokens[3].content"}},
        {{"added_tokens", "3", "content"}, std::string(257, 'x'), {"added_tokens[3].content", "256"}},
        {{"added_tokens", "3", "special"}, "yes", {"added_tokens[3].special", "true or false"}},
        {{"normalizer"}, json("{\"type\": \"NFC\"}"), {"normalizer", "NFC"}},
        {{"truncation"}, json("{\"max_length\": 5}"), {"truncation"}},
        {{"padding"}, json("{}"), {"padding"}},
        {{"decoder"}, json("{\"type\": \"WordPiece\"}"), {"decoder.type", "WordPiece"}},
        {{"decoder"}, Json(), {"decoder", "null"}},
        {{"post_processor"},
         json(
             R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}, {"Sequence": {"id": "A"}}]})"),
         {"post_processor.single"}},
        {{"pre_tokenizer"}, json("{\"type\": \"Metaspace\"}"), {"pre_tokenizer.type", "Metaspace"}},
        {{"pre_tokenizer", "pretokenizers", "0", "pattern"},
         json("{\"Regex\": \"(a+)+$\"}"),
         {"pretokenizers[0].pattern.Regex", "(a+)+$"}},
        {{"pre_tokenizer", "pretokenizers", "0", "pattern"}, json("{\"String\": \"\"}"), {"pattern.String"}},
        {{"pre_tokenizer", "pretokenizers", "0", "behavior"}, "Sideways", {"behavior", "Sideways", "Isolated"}},
        {{"pre_tokenizer"}, json(R"({"type": "Digits", "individual_digits": true})"), {"ByteLevel"}},
    };
    for (const Case& c : cases) {
        const std::string message = refusal(with(file, c.path, c.value));
        for (const std::string& s : c.said)
            EXPECT_NE(message.find(s), std::string::npos) << c.path.back() << ": " << message;
        EXPECT_NE(message.find("t.json"), std::string::npos) << message;
    }
    EXPECT_EQ(refusal(file), "accepted");
    EXPECT_EQ(refusal(with(file, {"normalizer"}, json(R"({"type": "Sequence", "normalizers": []})"))), "accepted");
    EXPECT_EQ(refusal(with(file, {"post_processor"},
                           json(R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}]})"))),
              "accepted");
}

TEST(Limits, IdsDepthAndSize) {
    const Json file = v4_file();
    Json top(int64_t{(1 << 22) - 1});
    const auto t = Tokenizer::parse(with(file, {"added_tokens", "3", "id"}, top).dump(), "t.json");
    EXPECT_EQ(t->n_ids(), 1 << 22);
    EXPECT_FALSE(t->has_token(100000));
    EXPECT_NE(refusal(with(file, {"added_tokens", "3", "id"}, int64_t{1} << 22)).find("4194303"), std::string::npos);
    EXPECT_EQ(refusal(with(file, {"added_tokens", "3", "content"}, std::string(256, 'x'))), "accepted");
    std::string deep = "{\"pre_tokenizer\": ";
    for (int k = 0; k < 100000; ++k) deep += '[';
    EXPECT_THROW(Tokenizer::parse(deep, "t.json"), Error);
    EXPECT_THROW(Tokenizer::load("/no/such/file"), Error);
    EXPECT_THROW(Tokenizer::load(VITRINE_SOURCE_DIR), Error);
}

// Mutants of the seedling's file: each is read or refused with an Error; nothing else, and what was read encodes and
// decodes.
TEST(Mutants, AreReadOrRefused) {
    const std::string path = std::string(VITRINE_SOURCE_DIR) + "/assets/models/seedling/tokenizer.json";
    const std::string seed = read_file(path, 1 << 20);
    const std::vector<std::string> values = {
        "null",        "true", "-1", "0",        "4194304",   "18446744073709551615", "1e400", "\"\"",
        "\"\\ud800\"", "[]",   "{}", "[[[[]]]]", "\"Split\"", "{\"type\":\"Split\"}"};
    int n_read = 0, n_refused = 0;
    for (int i = 0; i < 600; ++i) {
        const CounterRng rng(5, i);
        std::string s = seed;
        switch (i % 4) {
            case 0:
                s[rng.bits(0) % s.size()] ^= static_cast<char>(1 << rng.bits(1) % 8);
                break;
            case 1:
                s.resize(rng.bits(0) % s.size());
                break;
            case 2: {  // another value behind a colon
                const size_t colon = s.find(':', rng.bits(0) % s.size());
                if (colon == std::string::npos) break;
                const size_t end = s.find_first_of(",}\n", colon);
                s.replace(colon + 1, end - colon - 1, values[rng.bits(1) % values.size()]);
                break;
            }
            default: {  // a stretch copied elsewhere
                const size_t from = rng.bits(0) % s.size();
                s.insert(rng.bits(1) % s.size(), seed.substr(from, rng.bits(2) % 60));
            }
        }
        try {
            const auto t = Tokenizer::parse(s, "mutant");
            const std::string text = "a<think>b 你好 1234";
            EXPECT_EQ(t->decode(t->encode(text)), text) << "mutant " << i;
            ++n_read;
        } catch (const Error& e) {
            EXPECT_EQ(e.kind(), ErrorKind::bad_input) << "mutant " << i << ": " << e.what();
            ++n_refused;
        }
    }
    EXPECT_GT(n_read, 20);
    EXPECT_GT(n_refused, 200);
}

// Assigned in Unicode 15.1 and 16: `tokenizers` knows them whatever the system's utf8proc does (tests/parity).
TEST(Tokenizer, classes_do_not_depend_on_the_installed_tables) {
    EXPECT_EQ(class_bits(0x0897), kMark);
    EXPECT_EQ(class_bits(0x1C8A), kLetter);
    EXPECT_EQ(class_bits(0x1C8B), 0);
    EXPECT_EQ(class_bits(0x2FFC), kSymbol);
    EXPECT_EQ(class_bits(0x10D40), kNumber);
    EXPECT_EQ(class_bits(0x16D6F), kPunctuation);
    EXPECT_EQ(class_bits(0x1FAE9), kSymbol);
    EXPECT_EQ(class_bits(0x2EBF0), kLetter);
    EXPECT_EQ(class_bits(0x2EE5E), 0);
    EXPECT_EQ(class_bits(0x10FFFF), 0);
}

}  // namespace
}  // namespace vitrine::text
