// vitrine chat and dump against the reference: the greedy answers of the shipped model, and every hook's shape and
// value.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>

#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "engine/text/chat_json.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/checkpoint.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

const std::string kSource = VITRINE_SOURCE_DIR, kSeedling = kSource + "/assets/models/seedling";

std::vector<int64_t> ints(const Json& array) {
    std::vector<int64_t> out;
    for (const Json& x : array.items()) out.push_back(x.as_int());
    return out;
}

// seedling_greedy.json was made with transformers in FP32; three of its prompts are longer than 128 tokens, where the
// 4-head indexer may tie (the file's own README: no exact tie at the cut in these cases).
TEST(Chat, GreedyAnswersAreTheReference) {
    const test::TempFolder home;
    const std::string file = kSource + "/tests/golden/seedling_greedy.json";
    const Json cases = Json::parse(read_file(file, 1 << 20), file);
    ASSERT_EQ(cases.size(), 15u);
    for (const Json& c : cases.items()) {
        const std::string prompt = c.at("user").as_string();
        SCOPED_TRACE(prompt.substr(0, 40));
        const std::vector<int64_t> expected = ints(c.at("greedy_ids"));
        const test::Run r =
            test::run_program({"chat", "-m", kSeedling, "-p", prompt, "--mode", c.at("mode").as_string(), "--temp", "0", "-n",
                               std::to_string(expected.size()), "--json"},
                              home.path());
        ASSERT_EQ(r.code, 0) << r.err;
        const Json j = Json::parse(r.out, "stdout");
        EXPECT_EQ(ints(j.at("prompt_ids")), ints(c.at("prompt_ids")));
        EXPECT_EQ(ints(j.at("output_ids")), expected);
        EXPECT_EQ(j.at("stop").as_string(), c.at("ended").as_bool() ? "end of text" : "length");
        if (c.at("ended").as_bool()) {
            EXPECT_EQ(j.at("reasoning").as_string(), c.at("reasoning").as_string());
            EXPECT_EQ(j.at("answer").as_string(), c.at("answer").as_string());
        }
        EXPECT_GT(j.at("timings").at("tokens_per_s").as_double(), 0);
    }
}

std::map<std::string, RawTensor> by_name(const std::string& path) {
    std::map<std::string, RawTensor> out;
    for (RawTensor& t : read_safetensors(path)) out[t.name] = std::move(t);
    return out;
}

std::string write_ids(const RawTensor& t, const std::string& path) {
    std::string s = "[";
    const auto* ids = reinterpret_cast<const int32_t*>(t.data);
    for (int64_t i = 0; i < t.shape[0]; ++i) s += (i ? "," : "") + std::to_string(ids[i]);
    write_file_atomic(path, s + "]");
    return path;
}

// Rows of ids are sets: their order is not significant. Experts' weights are compared through the sorted order of both.
bool is_unordered(const std::string& name) {
    return name.ends_with("hook_topk") || name.ends_with("hook_router_indices") ||
           name.ends_with("hook_router_weights");
}

void expect_same(const std::string& name, const RawTensor& want, const RawTensor& got) {
    SCOPED_TRACE(name);
    ASSERT_EQ(got.shape, want.shape);
    ASSERT_EQ(got.dtype, want.dtype);
    const int64_t cols = want.shape.back(), n = static_cast<int64_t>(want.bytes) / 4;
    double worst = 0;
    for (int64_t r = 0; r < n / cols; ++r) {
        std::vector<double> a(cols), b(cols);
        for (int64_t i = 0; i < cols; ++i) {
            const auto value = [&](const RawTensor& t) {
                const std::byte* at = t.data + (r * cols + i) * 4;
                if (t.dtype == DType::i32) {
                    int32_t v;
                    std::memcpy(&v, at, 4);
                    return static_cast<double>(v);
                }
                float v;
                std::memcpy(&v, at, 4);
                return static_cast<double>(v);
            };
            a[i] = value(want), b[i] = value(got);
        }
        if (is_unordered(name)) std::sort(a.begin(), a.end()), std::sort(b.begin(), b.end());
        for (int64_t i = 0; i < cols; ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
    }
    EXPECT_LE(worst, want.dtype == DType::i32 ? 0.0 : 1e-3);
}

class Dump : public testing::TestWithParam<std::string> {};

TEST_P(Dump, HasEveryHookOfTheReferenceInItsShape) {
    const test::TempFolder tmp;
    const std::string folder = kSource + "/tests/golden/" + GetParam(), out = tmp.file("dump.safetensors");
    const auto want = by_name(folder + "/golden.safetensors");
    const std::string ids = write_ids(want.at("input_ids"), tmp.file("ids.json"));
    const test::Run r = test::run_program({"dump", "-m", folder, "--tokens", ids, "--out", out}, tmp.path());
    ASSERT_EQ(r.code, 0) << r.err;
    const auto got = by_name(out);
    for (const auto& [name, tensor] : want) {
        ASSERT_TRUE(got.count(name)) << name << " is missing";
        expect_same(name, tensor, got.at(name));
    }
    const int64_t n = want.at("input_ids").shape[0];
    // What the reference file does not have, in the same style.
    EXPECT_EQ(got.at("blocks.2.attn_hc.hook_pre").shape, (std::vector<int64_t>{n, 4}));
    EXPECT_EQ(got.at("blocks.2.attn.hook_shares").shape, (std::vector<int64_t>{n, 3}));
    EXPECT_EQ(got.at("blocks.2.attn.indexer.hook_scores").shape, (std::vector<int64_t>{n, n / 4}));
    EXPECT_EQ(got.at("hook_next_entropy").shape, (std::vector<int64_t>{n, 1}));
}

INSTANTIATE_TEST_SUITE_P(Golden, Dump, testing::Values("flashlike", "prolike"), [](const auto& i) { return i.param; });

// Of a sequence that completes no entry, or fewer than index_topk: the shapes that transformers gives.
TEST(Dump, ShortSequencesHaveEveryHookToo) {
    const test::TempFolder home;
    const std::string model = kSource + "/tests/golden/flashlike";  // ssCHCH, 16 to an entry of H, 8 picks
    struct Case {
        const char* ids;
        int64_t n, csa, hca;
    };
    for (const Case& c : {Case{"[5,6,7]", 3, 0, 0}, {"[5,6,7,8,9,10,11,12,13]", 9, 2, 0}}) {
        write_file_atomic(home.file("ids.json"), c.ids);
        const test::Run r = test::run_program(
            {"dump", "-m", model, "--tokens", home.file("ids.json"), "--out", home.file("out.safetensors")}, home.path());
        ASSERT_EQ(r.code, 0) << r.err;
        const auto got = by_name(home.file("out.safetensors"));
        const auto shape = [&](const std::string& name) {
            return got.count(name) ? got.at(name).shape : std::vector<int64_t>{-1};
        };
        using Shape = std::vector<int64_t>;
        EXPECT_EQ(shape("blocks.2.attn.compressor.hook_out"), (Shape{c.csa, 32}));
        EXPECT_EQ(shape("blocks.2.attn.compressor.hook_weights"), (Shape{c.csa, 8}));
        EXPECT_EQ(shape("blocks.3.attn.compressor.hook_out"), (Shape{c.hca, 32}));
        EXPECT_EQ(shape("blocks.3.attn.compressor.hook_weights"), (Shape{c.hca, 16}));
        EXPECT_EQ(shape("blocks.4.attn.indexer.hook_topk"), (Shape{c.n, c.csa}));
        EXPECT_EQ(shape("blocks.4.attn.indexer.hook_topk_scores"), (Shape{c.n, c.csa}));
        EXPECT_EQ(shape("blocks.4.attn.indexer.hook_scores"), (Shape{c.n, c.csa}));
        EXPECT_EQ(got.count("blocks.0.attn.compressor.hook_out"), 0u);
    }
}

std::string edited_copy(const test::TempFolder& home, const std::string& model, const std::string& name,
                        const std::string& from, const std::string& to) {
    const std::string copy = home.file("copy");
    std::filesystem::remove_all(copy);
    std::filesystem::copy(model, copy);
    std::string text = read_file(copy + "/" + name, 1 << 24);
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    write_file_atomic(copy + "/" + name, text.replace(at, from.size(), to));
    return copy;
}

// A sequence that was asked for is run, whatever max_position_embeddings says; --ctx is kept to.
TEST(Dump, GoesOnBeyondTheModelsContext) {
    const test::TempFolder home;
    const std::string model = edited_copy(home, kSource + "/tests/golden/flashlike", "config.json",
                                          "\"max_position_embeddings\": 65536", "\"max_position_embeddings\": 4");
    write_file_atomic(home.file("ids.json"), "[5,6,7,8,9,10]");
    std::vector<std::string> args = {"dump",  "-m",   model, "--tokens", home.file("ids.json"),
                                     "--out", home.file("out.safetensors")};
    const test::Run r = test::run_program(args, home.path());
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find("6 tokens, the model's max_position_embeddings is 4"), std::string::npos) << r.err;
    args.insert(args.end(), {"--ctx", "5"});
    const test::Run cut = test::run_program(args, home.path());
    EXPECT_EQ(cut.code, 2);
    EXPECT_NE(cut.err.find("6 tokens, the context holds at most 5; --ctx makes it longer"), std::string::npos) << cut.err;
}

// Token ids need no tokenizer.
TEST(Dump, ATokenizerThatCannotBeUsedIsAWarning) {
    const test::TempFolder home;
    const std::string model = edited_copy(home, kSeedling, "tokenizer.json", "\"BPE\"", "\"WordPiece\"");
    write_file_atomic(home.file("ids.json"), "[5,6,7]");
    const std::vector<std::vector<std::string>> commands = {
        {"dump", "-m", model, "--tokens", home.file("ids.json"), "--out", home.file("out.safetensors")},
        {"inspect", model, "--quick"},
        {"bench", "-m", model, "--prefill", "8", "--context", "1"}};
    for (const auto& args : commands) {
        const test::Run r = test::run_program(args, home.path());
        EXPECT_EQ(r.code, 0) << args[0] << r.err;
        EXPECT_NE((r.out + r.err).find("tokenizer.json"), std::string::npos) << args[0] << r.err;
        EXPECT_NE((r.out + r.err).find("text is not used, token ids are"), std::string::npos) << args[0] << r.err;
    }
    EXPECT_EQ(test::run_program({"chat", "-m", model, "-p", "hi"}, home.path()).code, 2);
}

Json answered(const test::TempFolder& home, std::vector<std::string> args) {
    args.insert(args.begin(), {"chat", "-m", kSeedling, "--temp", "0", "-n", "8", "--json"});
    const test::Run r = test::run_program(args, home.path());
    EXPECT_EQ(r.code, 0) << r.err;
    return Json::parse(r.out, "stdout");
}

TEST(Chat, MessagesOfAFile) {
    const test::TempFolder home;
    const std::string file = home.file("messages.json");
    write_file_atomic(file, R"([{"role": "system", "content": "S"}, {"role": "user", "content": "74*82=?"}])");
    const Json a = answered(home, {"--messages", file, "--mode", "high"}),
               b = answered(home, {"-p", "74*82=?", "-sys", "S", "--mode", "high"});
    for (const char* key : {"prompt_ids", "output_ids", "reasoning", "answer", "stop"}) EXPECT_EQ(a.at(key), b.at(key)) << key;
    // Roles and tools that no other option reaches.
    const std::string tools = R"({"tools": [{"type": "function", "function": {"name": "f"}}], "messages": [
        {"role": "system", "content": "S"}, {"role": "user", "content": "Q"},
        {"role": "assistant", "reasoning_content": "R", "content": null, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "T"}]})";
    write_file_atomic(file, tools);
    const auto tokenizer = text::Tokenizer::load(kSeedling + "/tokenizer.json");
    const std::vector<int32_t> want =
        text::encode_chat(text::messages_from_json(Json::parse(tools, file), file), text::RenderOptions::for_mode(Mode::high),
                          text::load_chat_format(kSeedling), *tokenizer)
            .ids;
    EXPECT_EQ(ints(answered(home, {"--messages", file, "--mode", "high"}).at("prompt_ids")),
              std::vector<int64_t>(want.begin(), want.end()));
    write_file_atomic(file, R"([{"role": "robot"}])");
    const test::Run r = test::run_program({"chat", "-m", kSeedling, "--messages", file}, home.path());
    EXPECT_EQ(r.code, 2);
    EXPECT_NE(r.err.find(file + ": [0].role = \"robot\" (line 1, column 11): expected system, developer"), std::string::npos)
        << r.err;
}

TEST(Npz, HoldsTheSameBytesAndTheirChecksums) {
    const test::TempFolder tmp;
    const std::string a = tmp.file("a.npz"), b = tmp.file("a.safetensors");
    for (const std::string& out : {a, b})
        ASSERT_EQ(test::run_program({"dump", "-m", kSeedling, "-p", "2*3=?", "--mode", "high", "--out", out}, tmp.path()).code, 0);
    // The zip's own structure, without NumPy: names, sizes and the checksum of each member.
    const std::string zip = read_file(a, 64 << 20);
    ASSERT_EQ(zip.substr(0, 4), std::string("PK\x03\x04"));
    const auto u32 = [&](size_t at) {
        uint32_t v;
        std::memcpy(&v, zip.data() + at, 4);
        return v;
    };
    const auto want = by_name(b);
    size_t at = 0, n = 0;
    while (u32(at) == 0x04034b50) {
        const uint32_t crc = u32(at + 14), size = u32(at + 18), name_size = u32(at + 26) & 0xFFFF;
        const std::string name = zip.substr(at + 30, name_size), body = zip.substr(at + 30 + name_size, size);
        uint32_t c = 0xFFFFFFFF;
        for (unsigned char x : body) {
            c ^= x;
            for (int k = 0; k < 8; ++k) c = (c >> 1) ^ (0xEDB88320u & (0u - (c & 1)));
        }
        EXPECT_EQ(~c, crc) << name;
        ASSERT_TRUE(name.ends_with(".npy"));
        const RawTensor& t = want.at(name.substr(0, name.size() - 4));
        ASSERT_EQ(body.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
        const size_t header = static_cast<unsigned char>(body[8]) + 256 * static_cast<unsigned char>(body[9]);
        EXPECT_EQ((10 + header) % 64, 0u);
        EXPECT_EQ(body.size() - 10 - header, t.bytes) << name;
        EXPECT_EQ(std::memcmp(body.data() + 10 + header, t.data, t.bytes), 0) << name;
        at += 30 + name_size + size;
        ++n;
    }
    EXPECT_EQ(n, want.size());
    EXPECT_EQ(u32(zip.size() - 22), 0x06054b50u);
    EXPECT_EQ(u32(zip.size() - 6), at);  // where the directory begins
}

}  // namespace
}  // namespace vitrine
