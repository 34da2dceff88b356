// The safetensors format: one hand-made bad file per way to be wrong, each refused with the message that names it; the
// limits below, at and above; what is legal and odd; and files that we write.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "engine/weights/checkpoint.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {
namespace fs = std::filesystem;

std::string with_length(uint64_t n, const std::string& rest) {
    std::string s(8, '\0');
    for (size_t i = 0; i < 8; ++i) s[i] = static_cast<char>(n >> (8 * i));
    return s + rest;
}
std::string file_of(const std::string& header, size_t data_bytes) {
    return with_length(header.size(), header + std::string(data_bytes, '\1'));
}
std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
    return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}
std::string tensor_file(const std::string& dtype, const std::string& shape, const std::string& offsets,
                        size_t data_bytes) {
    return file_of("{" + entry("t", dtype, shape, offsets) + "}", data_bytes);
}

std::string verdict(const std::string& path) {
    try {
        read_safetensors(path);
    } catch (const Error& e) {
        return e.what();
    }
    return "accepted";
}

struct Bad {
    const char* what;
    std::string bytes;
    const char* message;  // a part of it
};

std::vector<Bad> bad_files() {
    const std::string good = entry("t", "F32", "[2]", "[0,8]");
    const std::string deep = "{\"t\":{\"dtype\":\"F32\",\"shape\":[[[[1]]]],\"data_offsets\":[0,4]}}";
    const std::string long_name(1025, 'n');
    return {
        {"no bytes", "", "0 bytes: expected a safetensors file"},
        {"a length cut short", std::string("\x10\0\0", 3), "3 bytes"},
        {"only a length", with_length(0, ""), "header"},
        {"a length beyond the file", with_length(9, "{}"),
         "header length = 9 (byte 0): expected at most the 2 bytes that follow"},
        {"a length of 2^60", with_length(1ull << 60, "{}"), "expected at most 100000000"},
        {"a length of 2^64-1", with_length(~0ull, "{}"),
         "header length = 18446744073709551615 (byte 0): expected at most 100000000"},
        {"a length one above the limit", with_length(100'000'001, "{}"),
         "header length = 100000001 (byte 0): expected at most 100000000"},
        {"a header that is an array", file_of("[]", 0), "expected it to begin with {"},
        {"a header behind a space", file_of(" {}", 0), "expected it to begin with {"},
        {"another format: GGUF", "GGUF\3\0\0\0" + std::string(24, '\0'), "header length"},
        {"another format: a zip", "PK\3\4" + std::string(60, '\0'), "header"},
        {"JSON cut short", file_of("{\"t\":", 0), "not valid JSON (line 1, column"},
        {"bytes behind the JSON", file_of("{}{}", 0), "not valid JSON (line 1, column 3)"},
        {"invalid UTF-8", file_of("{\"\xFF\":1}", 0), "not valid JSON (line 1, column 3)"},
        {"a NUL byte", file_of(std::string("{}\0 ", 4), 0), "a NUL byte"},
        {"nested too deep", file_of(deep, 4), "nested deeper than 4 levels"},
        {"nested 100,000 deep", file_of("{\"t\":" + std::string(100000, '['), 4), "nested deeper than 4 levels"},
        {"a name twice", file_of("{" + good + "," + good + "}", 8), "duplicate key \"t\""},
        {"a number for a tensor", file_of("{\"t\":7}", 0),
         "t = an integer (line 1, column 6): expected an object with dtype"},
        {"an unknown key", file_of("{\"t\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4],\"x\":0}}", 4),
         "t.x = an integer"},
        {"no dtype", file_of("{\"t\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4), "t = no dtype"},
        {"no shape", file_of("{\"t\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4), "t = no shape"},
        {"no offsets", file_of("{\"t\":{\"dtype\":\"F32\",\"shape\":[]}}", 4), "t = no data_offsets"},
        {"an unknown dtype", tensor_file("F31", "[2]", "[0,8]", 8),
         "t.dtype = F31 (line 1, column 15): expected one of F32, F64, F16"},
        {"a dtype that is no string", file_of("{\"t\":{\"dtype\":3,\"shape\":[],\"data_offsets\":[0,4]}}", 4),
         "t.dtype = an integer"},
        {"a negative size", tensor_file("F32", "[-1]", "[0,8]", 8), "t.shape = -1"},
        {"a broken size", tensor_file("F32", "[2.0]", "[0,8]", 8), "t.shape = 2.0"},
        {"a size of 2^63", tensor_file("F32", "[9223372036854775808]", "[0,8]", 8), "t.shape = 9223372036854775808"},
        {"a size as text", tensor_file("F32", "[\"2\"]", "[0,8]", 8), "t.shape = a string"},
        {"a shape that is a number", tensor_file("F32", "2", "[0,8]", 8), "t.shape = an integer"},
        {"rank 9", tensor_file("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]", 8), "t.shape = 9 dimensions"},
        {"a product that wraps to 4", tensor_file("U8", "[4194305,4194305,211106198978564]", "[0,4]", 4),
         "expected a size that 64 bits can count"},
        {"bytes that wrap", tensor_file("F64", "[2305843009213693953]", "[0,8]", 8),
         "expected a size that 64 bits can count"},
        {"4 MB over 4 bytes", tensor_file("F32", "[1048576]", "[0,4]", 4), "t = 4 bytes of data (byte "},
        {"more data than the shape", tensor_file("F32", "[1]", "[0,8]", 8), "expected 4 bytes for F32 [1]"},
        {"data for an empty shape", tensor_file("F32", "[0]", "[0,8]", 8), "expected 0 bytes for F32 [0]"},
        {"offsets the wrong way round", tensor_file("F32", "[2]", "[8,0]", 8), "t.data_offsets = [8, 0]"},
        {"offsets behind the end", tensor_file("F32", "[2]", "[0,8]", 7), "expected begin <= end <= 7"},
        {"a negative offset", tensor_file("F32", "[2]", "[-8,0]", 8), "t.data_offsets = [-8, 0]"},
        {"an offset of 2^64-1", tensor_file("F32", "[2]", "[18446744073709551608,18446744073709551615]", 8),
         "t.data_offsets"},
        {"three offsets", tensor_file("F32", "[2]", "[0,4,8]", 8), "expected two integers"},
        {"offsets through a double", tensor_file("F32", "[2]", "[0,8.0]", 8), "expected two integers"},
        {"a gap ahead", tensor_file("F32", "[1]", "[4,8]", 8), "t = data begins at 4"},
        {"a gap between",
         file_of("{" + entry("a", "F32", "[1]", "[0,4]") + "," + entry("b", "F32", "[1]", "[8,12]") + "}", 12),
         "b = data begins at 8"},
        {"an overlap",
         file_of("{" + entry("a", "F32", "[2]", "[0,8]") + "," + entry("b", "F32", "[2]", "[4,12]") + "}", 12),
         "expected 8: tensors must follow each other without overlap"},
        {"two names of the same bytes",
         file_of("{" + entry("a", "F32", "[2]", "[0,8]") + "," + entry("b", "F32", "[2]", "[0,8]") + "}", 8),
         "b = data begins at 0"},
        {"bytes behind the last tensor", tensor_file("F32", "[1]", "[0,4]", 5), "1 bytes behind the last tensor"},
        {"data without tensors", file_of("{}", 3), "3 bytes behind the last tensor"},
        {"metadata that is no object", file_of("{\"__metadata__\":[]}", 0), "__metadata__ = an array"},
        {"metadata that is no text", file_of("{\"__metadata__\":{\"a\":1}}", 0), "__metadata__.a = an integer"},
        {"an empty name", file_of("{" + entry("", "F32", "[2]", "[0,8]") + "}", 8),
         "expected a tensor name of 1 to 1024 bytes"},
        {"a name of 1,025 bytes", file_of("{" + entry(long_name, "F32", "[2]", "[0,8]") + "}", 8), "1025 bytes"},
        {"a name with ESC", file_of("{" + entry("a\\u001b[2J", "F32", "[2]", "[0,8]") + "}", 8), "a\\x1B[2J"},
        {"a name that turns the text around",
         file_of("{" +
                     entry("a\xE2\x80\xAE"
                           "b",
                           "F32", "[2]", "[0,8]") +
                     "}",
                 8),
         "a<U+202E>b"},
        {"half a surrogate pair", file_of("{" + entry("\\ud800", "F32", "[2]", "[0,8]") + "}", 8), "surrogate"},
        {"a number beyond a double", tensor_file("F32", "[1e400]", "[0,8]", 8), "number overflow"},
    };
}

TEST(Safetensors, EveryBadFileIsNamed) {
    test::TempFolder folder;
    const std::string path = folder.file("bad.safetensors");
    int n = 0;
    for (const Bad& bad : bad_files()) {
        std::ofstream(path, std::ios::binary) << bad.bytes;
        const std::string v = verdict(path);
        EXPECT_NE(v.find(bad.message), std::string::npos) << bad.what << "\n  " << v << "\n  wanted: " << bad.message;
        EXPECT_NE(v.find(path), std::string::npos) << bad.what << ": the message names no file\n  " << v;
        for (char c : v) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << bad.what;
        ++n;
    }
    EXPECT_GE(n, 40);
}

TEST(Safetensors, OddButLegal) {
    test::TempFolder folder;
    const std::string path = folder.file("odd.safetensors");
    for (const std::string& bytes :
         {file_of("{}", 0), file_of("{}     ", 0), tensor_file("F32", "[]", "[0,4]", 4),
          tensor_file("F32", "[0]", "[0,0]", 0),
          tensor_file("F64", "[4611686018427387904,4611686018427387904,0]", "[0,0]", 0),  // empty, however large
          tensor_file("BF16", "[1,1,1,1,1,1,1,2]", "[0,4]", 4), file_of("{\"__metadata__\":{\"format\":\"pt\"}}", 0),
          file_of("{" + entry(std::string(1024, 'n'), "U8", "[1]", "[0,1]") + "}", 1),
          file_of("{" + entry("b", "U8", "[1]", "[1,2]") + "," + entry("z", "U8", "[0]", "[1,1]") + "," +
                      entry("a", "U8", "[1]", "[0,1]") + "}",
                  2)}) {
        std::ofstream(path, std::ios::binary) << bytes;
        EXPECT_EQ(verdict(path), "accepted") << bytes.substr(8, 100);
    }
}

TEST(Safetensors, EveryPrefixIsRefused) {
    test::TempFolder folder;
    const std::string path = folder.file("cut.safetensors");
    const std::string whole =
        file_of("{" + entry("a", "F32", "[2]", "[0,8]") + "," + entry("b", "I64", "[1,1]", "[8,16]") + "}  ", 16);
    for (size_t n = 0; n < whole.size(); ++n) {
        std::ofstream(path, std::ios::binary) << whole.substr(0, n);
        EXPECT_NE(verdict(path), "accepted") << n;
    }
    std::ofstream(path, std::ios::binary) << whole;
    EXPECT_EQ(verdict(path), "accepted");
}

TEST(Safetensors, HeaderLimitAtAndAbove) {
    test::TempFolder folder;
    const std::string path = folder.file("large.safetensors");
    for (const size_t n : {100'000'000u, 100'000'001u}) {
        std::ofstream(path, std::ios::binary) << file_of("{}" + std::string(n - 2, ' '), 0);
        EXPECT_EQ(verdict(path) == "accepted", n == 100'000'000u) << n;
    }
}

TEST(Safetensors, SpecialFiles) {
    test::TempFolder folder;
    const std::string fifo = folder.file("fifo"), sparse = folder.file("sparse");
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    EXPECT_NE(verdict(fifo).find("not a regular file"), std::string::npos);
    EXPECT_NE(verdict(folder.path()).find("not a regular file"), std::string::npos);
    EXPECT_NE(verdict("/dev/zero").find("not a regular file"), std::string::npos);
    std::ofstream(sparse, std::ios::binary) << with_length(1ull << 39, "{");
    fs::resize_file(sparse, 1ull << 40);
    EXPECT_NE(verdict(sparse).find("expected at most 100000000"), std::string::npos);
}

TEST(Safetensors, WritesWhatItReads) {
    test::TempFolder folder;
    const std::string path = folder.file("w.safetensors");
    const float f[6] = {1, 2, 3, 4, 5, 6};
    const uint16_t b[3] = {0x3F80, 0x4000, 0x4040};
    const int64_t i[2] = {-1, 1ll << 40};
    const uint8_t u[1] = {200};
    write_safetensors(path, {{"u", DType::u8, {1}, u, 1},
                             {"b", DType::bf16, {3, 1}, b, 6},
                             {"f", DType::f32, {2, 3}, f, 24},
                             {"none", DType::f16, {0, 5}, nullptr, 0},
                             {"i", DType::i64, {2}, i, 16},
                             {"scalar", DType::f32, {}, f, 4}});
    std::map<std::string, RawTensor> t;
    for (RawTensor& r : read_safetensors(path)) t[r.name] = std::move(r);
    ASSERT_EQ(t.size(), 6u);
    EXPECT_EQ(std::memcmp(t["f"].data, f, 24), 0);
    EXPECT_EQ(std::memcmp(t["i"].data, i, 16), 0);
    EXPECT_EQ(std::memcmp(t["b"].data, b, 6), 0);
    EXPECT_EQ(t["f"].shape, (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(t["none"].bytes, 0u);
    EXPECT_TRUE(t["scalar"].shape.empty());
    for (const auto& [name, r] : t)
        EXPECT_EQ(reinterpret_cast<uintptr_t>(r.data) % (dtype_bits(r.dtype) / 8), 0u) << name;
}

}  // namespace
}  // namespace vitrine
