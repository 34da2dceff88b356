// Ids against Hugging Face tokenizers: 12,000 mixed strings with the V4 pre-tokenizer, 2,000 with the seedling's
// tokenizer and 2,000 with each of twelve other pre-tokenizers. Expected values: make_vectors.py.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "engine/text/tokenizer.h"
#include "tests/text/sample_text.h"

namespace vitrine::text {
namespace {

using test::SampleText;
using test::text_file;

const std::string kSeedling = std::string(VITRINE_SOURCE_DIR) + "/assets/models/seedling/tokenizer.json";

uint64_t ids_hash(const std::vector<int32_t>& ids) {
    std::string bytes;
    for (int32_t id : ids)
        for (int k = 0; k < 4; ++k) bytes += static_cast<char>(id >> (8 * k));
    return fnv1a64(bytes);
}

std::string listed(const std::vector<int32_t>& ids) {
    std::string s;
    for (int32_t id : ids) s += std::to_string(id) + " ";
    return s;
}

// Compares with a file of expected values; at most five mismatches are printed in full.
void check_vectors(const Tokenizer& t, const std::string& path) {
    std::ifstream f(path);
    ASSERT_TRUE(f) << path;
    std::string word, line;
    int n_strings = 0, n_full = 0, n_bad = 0;
    f >> word >> n_strings >> word >> n_full;
    std::getline(f, line);
    const SampleText sample;
    for (int i = 0; i < n_strings; ++i) {
        ASSERT_TRUE(std::getline(f, line)) << "line " << i;
        std::istringstream in(line);
        std::string text_hash, hash;
        size_t n_ids = 0;
        in >> text_hash >> n_ids >> hash;
        const std::string text = sample(i);
        ASSERT_EQ(fnv1a64(text) & 0xFFFFFFFF, std::stoull(text_hash, nullptr, 16))
            << "string " << i << " is generated differently";
        const auto ids = t.encode(text);
        std::vector<int32_t> expected;
        for (int32_t id; in >> id;) expected.push_back(id);
        const bool is_equal = (ids_hash(ids) & 0xFFFFFFFF) == std::stoull(hash, nullptr, 16) && ids.size() == n_ids &&
                              (i >= n_full || ids == expected);
        if (!is_equal && ++n_bad <= 5)
            ADD_FAILURE() << "string " << i << ": " << escaped(text, 400) << "\nids       " << listed(ids)
                          << "\nexpected  "
                          << (i < n_full ? listed(expected) : std::to_string(n_ids) + " ids, hash " + hash);
    }
    EXPECT_EQ(n_bad, 0) << "of " << n_strings;
    EXPECT_GE(n_strings, 2000);
}

TEST(TokenizerVectors, V4) {
    check_vectors(*Tokenizer::load(text_file("v4_tokenizer.json")), text_file("v4_ids.txt"));
}

TEST(TokenizerVectors, Seedling) {
    check_vectors(*Tokenizer::load(kSeedling), text_file("seedling_ids.txt"));
}

TEST(TokenizerVectors, OtherPreTokenizers) {
    const std::string path = text_file("v4_tokenizer.json");
    Json base = Json::parse(read_file(path, 1 << 22), path);
    const Json variants = Json::parse(read_file(text_file("variants.json"), 1 << 20), "variants.json");
    const SampleText sample;
    std::ifstream f(text_file("variant_ids.txt"));
    std::string line;
    size_t n_variants = 0;
    for (; std::getline(f, line); ++n_variants) {
        std::istringstream in(line);
        std::string name, hash;
        in >> name;
        base.set("pre_tokenizer", variants.at(name));
        const auto t = Tokenizer::parse(base.dump(), name);
        int n_bad = 0, i = 0;
        for (; in >> hash; ++i) {
            const auto ids = t->encode(sample(i));
            if ((ids_hash(ids) & 0xFFFF) != std::stoull(hash, nullptr, 16) && ++n_bad <= 3) {
                std::string pieces;
                for (int32_t id : ids) pieces += escaped(t->token_bytes(id)) + "|";
                ADD_FAILURE() << name << ", string " << i << ": " << escaped(sample(i), 400) << "\npieces " << pieces;
            }
        }
        EXPECT_EQ(n_bad, 0) << name;
        EXPECT_EQ(i, 2000) << name;
    }
    EXPECT_EQ(n_variants, variants.size());
}

// Decoding what was encoded gives the text back; places tile it.
TEST(Tokenizer, RoundTripAndPlacesOn10000Strings) {
    const auto t = Tokenizer::load(text_file("v4_tokenizer.json"));
    const SampleText sample;
    for (int i = 0; i < 10000; ++i) {
        const std::string text = sample(500000 + i);
        const Encoding e = t->encode_with_places(text);
        ASSERT_EQ(t->decode(e.ids), repaired_utf8(text)) << i;
        ASSERT_EQ(e.text, repaired_utf8(text));
        ASSERT_EQ(e.begin.size(), e.ids.size() + 1);
        ASSERT_EQ(e.ids, t->encode(text));
        for (size_t k = 0; k < e.ids.size(); ++k)
            ASSERT_EQ(e.text.substr(e.begin[k], e.begin[k + 1] - e.begin[k]), t->token_bytes(e.ids[k])) << i;
    }
}

}  // namespace
}  // namespace vitrine::text
