// The tokenizer of random-weight checkpoints: control tokens, then one token per byte.
#include "engine/base/json.h"
#include "engine/model/init.h"

namespace vitrine {
namespace {

// v4-spec 8.1. Ids are the places in this list: 16 of them, then byte b is id 16 + b.
constexpr const char* kControl[] = {"<｜begin▁of▁sentence｜>",
                                    "<｜end▁of▁sentence｜>",
                                    "<｜▁pad▁｜>",
                                    "<｜User｜>",
                                    "<｜Assistant｜>",
                                    "<think>",
                                    "</think>",
                                    "｜DSML｜",
                                    "<｜latest_reminder｜>",
                                    "<｜action｜>",
                                    "<｜query｜>",
                                    "<｜authority｜>",
                                    "<｜domain｜>",
                                    "<｜title｜>",
                                    "<｜read_url｜>",
                                    "<｜extracted_url｜>"};

// v4-spec 9, behind the pattern for digits.
constexpr const char* kPatterns[] = {"[一-龥぀-ゟ゠-ヿ]+",
                                     R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^)"
                                     "\r\n"
                                     R"(\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[)"
                                     "\r\n"
                                     R"(]*|\s*[)"
                                     "\r\n"
                                     R"(]+|\s+(?!\S)|\s+)"};

// The printable stand-in of a byte in byte-level vocabularies (GPT-2): itself where Latin-1 prints it, else from U+0100
// on.
std::string byte_character(int byte) {
    const auto prints = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
    int c = byte;
    if (!prints(byte)) {
        c = 256;
        for (int b = 0; b < byte; ++b) c += !prints(b);
    }
    if (c < 0x80) return std::string(1, static_cast<char>(c));
    return {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
}

Json object(std::initializer_list<std::pair<const char*, Json>> members) {
    Json o = Json::object();
    for (const auto& [k, v] : members) o.set(k, v);
    return o;
}

std::string byte_characters(const std::string& bytes) {
    std::string s;
    for (char b : bytes) s += byte_character(static_cast<unsigned char>(b));
    return s;
}

std::string tokenizer_json(const std::vector<std::pair<std::string, std::string>>& merges, const char* digits) {
    Json added = Json::array(), vocab = Json::object(), splits = Json::array();
    int id = 0;
    for (const char* name : kControl) {
        added.push(object({{"id", id},
                           {"content", name},
                           {"single_word", false},
                           {"lstrip", false},
                           {"rstrip", false},
                           {"normalized", false},
                           {"special", id < 3}}));  // as V4's files: begin, end and pad only
        vocab.set(name, id++);
    }
    for (int b = 0; b < 256; ++b) vocab.set(byte_character(b), id++);
    Json merge_list = Json::array();
    for (const auto& [left, right] : merges) {
        const std::string name = byte_characters(left + right);
        if (!vocab.find(name)) vocab.set(name, id++);
        merge_list.push(byte_characters(left) + " " + byte_characters(right));
    }
    for (const char* p : {digits, kPatterns[0], kPatterns[1]})
        splits.push(object(
            {{"type", "Split"}, {"pattern", object({{"Regex", p}})}, {"behavior", "Isolated"}, {"invert", false}}));
    const auto byte_level = [](bool prefix, bool regex) {
        return object(
            {{"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"trim_offsets", true}, {"use_regex", regex}});
    };
    splits.push(byte_level(false, false));
    const Json none;
    return object({{"version", "1.0"},
                   {"truncation", none},
                   {"padding", none},
                   {"added_tokens", added},
                   {"normalizer", none},
                   {"pre_tokenizer", object({{"type", "Sequence"}, {"pretokenizers", splits}})},
                   {"post_processor", none},
                   {"decoder", byte_level(true, true)},
                   {"model", object({{"type", "BPE"},
                                     {"dropout", none},
                                     {"unk_token", none},
                                     {"continuing_subword_prefix", none},
                                     {"end_of_word_suffix", none},
                                     {"fuse_unk", false},
                                     {"byte_fallback", false},
                                     {"vocab", vocab},
                                     {"merges", merge_list}})}})
               .dump(0) +
           "\n";
}

}  // namespace

std::string byte_tokenizer_json() { return tokenizer_json({}, R"(\p{N}{1,3})"); }

std::string bpe_tokenizer_json(const std::vector<std::pair<std::string, std::string>>& merges) {
    return tokenizer_json(merges, R"(\p{N})");
}

}  // namespace vitrine
