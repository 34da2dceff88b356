// Mutants of every kind of file that a stranger may hand us: each is used or refused with a message, never anything
// else.
//
// 500 of each in the ordinary test; tests/fuzz/long.sh runs more (VITRINE_FUZZ_MUTANTS) and under sanitizers.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "engine/model/config.h"
#include "engine/model/init.h"
#include "engine/model/weights.h"
#include "engine/telemetry/trace.h"
#include "engine/text/chat.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/checkpoint.h"
#include "tests/fuzz/mutate.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {
namespace fs = std::filesystem;

const std::string kRoot = VITRINE_SOURCE_DIR;

uint64_t n_mutants() {
    const char* n = std::getenv("VITRINE_FUZZ_MUTANTS");
    return n ? std::strtoull(n, nullptr, 10) : 500;
}

// Runs `use` and checks that only an Error of a kind that fits comes out, with a message fit for a terminal.
struct Count {
    int accepted = 0, refused = 0;
    template <class F>
    void run(uint64_t number, F use) {
        try {
            use();
            ++accepted;
        } catch (const Error& e) {
            ++refused;
            const std::string m = e.what();
            EXPECT_TRUE(e.kind() == ErrorKind::bad_input || e.kind() == ErrorKind::io) << number << ": " << m;
            EXPECT_FALSE(m.empty()) << number;
            EXPECT_LT(m.size(), 32768u) << number;
            size_t bad = 0;
            for (size_t at = 0; at < m.size();) {
                const uint32_t c = next_code_point(m, at);
                bad += c != '\n' && is_unsafe_code_point(c);
            }
            EXPECT_EQ(bad, 0u) << number << ": unprintable message";
        } catch (const std::exception& e) {
            ADD_FAILURE() << "mutant " << number << ": " << e.what();
        }
    }
    ~Count() {
        EXPECT_EQ(accepted + refused, static_cast<int>(n_mutants()));
        EXPECT_GT(refused, accepted / 20);  // else the mutants are too tame to show anything
        std::printf("           accepted %d, refused %d\n", accepted, refused);
    }
};

// A model of every layer kind, small enough to be written a few thousand times.
ModelConfig small_config() {
    ModelConfig c = preset_config("tiny");
    c.layers = {{0, true}, {4, false}, {16, false}};
    c.hidden_size = 16, c.n_heads = 2, c.head_dim = 8, c.rope_dim = 4, c.q_lora_rank = 8, c.o_lora_rank = 4,
    c.o_groups = 2;
    c.index_n_heads = 2, c.index_head_dim = 8, c.n_experts = 3, c.n_experts_per_tok = 2, c.expert_width = 8,
    c.vocab_size = 272;
    return c;
}

class Fuzz : public testing::Test {
  protected:
    void SetUp() override { before_ = peak_bytes(); }
    void TearDown() override { EXPECT_LT(peak_bytes() - before_, uint64_t{512} << 20) << "memory"; }
    static uint64_t peak_bytes() {
        struct rusage u {};
        getrusage(RUSAGE_SELF, &u);
        return static_cast<uint64_t>(u.ru_maxrss) << 10;
    }
    static void write(const std::string& path, const std::string& bytes) {
        std::ofstream(path, std::ios::binary) << bytes;
    }
    test::TempFolder folder_;
    uint64_t before_ = 0;
};

uint64_t header_length(const std::string& file) {
    return ByteReader("seed", reinterpret_cast<const std::byte*>(file.data()), file.size()).u64();
}

TEST_F(Fuzz, Safetensors) {
    const ModelConfig config = small_config();
    init_checkpoint(config, 1, WeightsFormat::official, folder_.file("m"));
    const std::string path = folder_.file("m/model.safetensors"), seed = read_file(path, 1 << 24);
    const uint64_t n = header_length(seed);
    const std::string header = seed.substr(8, n), data = seed.substr(8 + n);
    Count count;
    for (uint64_t i = 0; i < n_mutants(); ++i) {
        test::Mutator m("safetensors", i);
        std::string mutant;
        if (i % 4 == 0) {
            mutant = m.bytes(seed);
        } else {  // with a length that fits, so that the header is reached
            const std::string h = i % 4 == 1 ? header : m.json(header);
            for (int k = 0; k < 8; ++k) mutant += static_cast<char>(static_cast<uint64_t>(h.size()) >> (8 * k));
            mutant += h + (i % 4 == 1 ? m.bytes(data).substr(0, data.size()) : data);
        }
        write(path, mutant);
        count.run(i, [&] {
            uint64_t bytes = 0;
            for (const RawTensor& t : read_safetensors(path)) {
                bytes += t.bytes;
                VITRINE_ASSERT(t.data >= t.file->data() && t.data + t.bytes <= t.file->data() + t.file->size());
            }
            VITRINE_ASSERT(bytes + 8 + header_length(mutant) == mutant.size());  // exact cover
            const ModelWeights w = load_weights(folder_.file("m"), config);
            for (const WeightScan& s : scan_weights(w)) VITRINE_ASSERT(s.n_nan + s.n_inf <= s.n_values);
        });
    }
}

TEST_F(Fuzz, IndexAndShards) {
    const ModelConfig config = small_config();
    init_checkpoint(config, 1, WeightsFormat::fp8, folder_.file("m"));
    const auto all = read_folder(folder_.file("m"));
    std::vector<NamedArray> halves[2];  // the same tensors in two files
    Json map = Json::object(), index = Json::object();
    for (const auto& [name, t] : all) {
        const size_t k = map.size() % 2;
        halves[k].push_back({name, t.dtype, t.shape, t.data, t.bytes});
        map.set(name, k ? "s2.safetensors" : "s1.safetensors");
    }
    index.set("weight_map", map);
    const std::string names[3] = {folder_.file("n/model.safetensors.index.json"), folder_.file("n/s1.safetensors"),
                                  folder_.file("n/s2.safetensors")};
    fs::create_directory(folder_.file("n"));
    std::string files[3] = {index.dump(1)};
    for (size_t k = 1; k < 3; ++k) {
        write_safetensors(names[k], halves[k - 1]);
        files[k] = read_file(names[k], 1 << 24);
    }
    Count count;
    for (uint64_t i = 0; i < n_mutants(); ++i) {
        test::Mutator m("index", i);
        const size_t which = i % 5 < 3 ? 0 : i % 2 + 1;
        for (size_t k = 0; k < 3; ++k)
            write(names[k], k != which ? files[k] : k ? m.bytes(files[k]) : m.json(files[k]));
        count.run(i, [&] { load_weights(folder_.file("n"), config); });
    }
}

TEST_F(Fuzz, Config) {
    std::vector<std::string> seeds;
    for (const char* f : {"/tests/golden/official", "/tests/golden/flashlike", "/assets/models/seedling"})
        seeds.push_back(read_file(kRoot + f + "/config.json", 1 << 20));
    Count count;
    for (uint64_t i = 0; i < n_mutants(); ++i) {
        const std::string mutant = test::Mutator("config", i).json(seeds[i % seeds.size()]);
        count.run(i, [&] {
            const ParsedConfig p = parse_config(mutant, "config.json");
            VITRINE_ASSERT(validate(p.config, "").empty());
            VITRINE_ASSERT(std::isfinite(p.config.rope_theta) && p.config.n_layers() >= 1);
        });
    }
}

TEST_F(Fuzz, Tokenizer) {
    const std::string seeds[] = {byte_tokenizer_json(),
                                 read_file(kRoot + "/assets/models/seedling/tokenizer.json", 1 << 20),
                                 read_file(kRoot + "/tests/text/v4_tokenizer.json", 1 << 24)};
    const std::string text = "<｜begin▁of▁sentence｜>Héllo 12345 你好\n\n  \xF0\x9F\x8C\xB1\xFF x+y</think>";
    Count count;
    for (uint64_t i = 0; i < n_mutants(); ++i) {
        const std::string mutant = test::Mutator("tokenizer", i).json(seeds[i % std::size(seeds)]);
        count.run(i, [&] {
            const auto t = text::Tokenizer::parse(mutant, "tokenizer.json");
            const std::vector<int32_t> ids = t->encode(text);
            for (int32_t id : ids) VITRINE_ASSERT(id >= 0 && id < t->n_ids());
            t->decode(ids);
        });
    }
}

TEST_F(Fuzz, ChatFormat) {
    const std::string seed = read_file(kRoot + "/assets/models/seedling/chat.json", 1 << 20);
    Count count;
    for (uint64_t i = 0; i < n_mutants(); ++i) {
        write(folder_.file("chat.json"), test::Mutator("chat", i).json(seed));
        count.run(i, [&] { text::load_chat_format(folder_.path()); });
    }
}

TEST_F(Fuzz, TraceRecords) {
    RecordBuilder builder;
    builder.begin(1);
    float f[24];
    int32_t n[8];
    for (int i = 0; i < 24; ++i) f[i] = static_cast<float>(i) / 3;
    for (int i = 0; i < 8; ++i) n[i] = i;
    for (int layer = 0; layer < 5; ++layer) {
        builder.put(0, Probe::kAttnHcComb, layer, f, 4, 4);
        builder.put(0, Probe::kStreams, layer, f, 4, 6);
        builder.put(0, Probe::kIndexTopk, layer, n, 1, 8);
    }
    const std::string seed = builder.finish(0)->serialize();
    ASSERT_GT(seed.size(), 900u);
    ASSERT_EQ(TokenRecord::parse(seed, "t")->serialize(), seed);
    Count count;
    double sum = 0;  // touches every value: a view outside the record is for the sanitizers to see
    for (uint64_t i = 0; i < n_mutants(); ++i) {
        const std::string mutant = test::Mutator("trace", i).bytes(seed);
        count.run(i, [&] {
            const auto r = TokenRecord::parse(mutant, "trace");
            for (int layer = 0; layer < 5; ++layer) {
                for (float x : r->floats(Probe::kAttnHcComb, layer).data) sum += std::isfinite(x);
                for (float x : r->floats(Probe::kStreams, layer).data) sum += std::isfinite(x);
                for (int32_t x : r->ints(Probe::kIndexTopk, layer).data) sum += x != 0;
            }
            const std::string again = r->serialize();
            VITRINE_ASSERT(TokenRecord::parse(again, "again")->serialize() == again);
        });
    }
    EXPECT_GE(sum, 0);
}

}  // namespace
}  // namespace vitrine
