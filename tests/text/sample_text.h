// The strings of the tokenizer vectors: the same draws in the same order as make_vectors.py.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "engine/base/rng.h"
#include "engine/base/utf8.h"

namespace vitrine::test {

inline std::string text_file(const std::string& name) {
    return std::string(VITRINE_SOURCE_DIR) + "/tests/text/" + name;
}

class SampleText {
  public:
    SampleText() {
        const std::string path = text_file("sample_material.json");
        const Json j = Json::parse(read_file(path, 1 << 20), path);
        for (const Json& w : j.at("words").items()) words_.push_back(w.as_string());
        for (const Json& s : j.at("spaces").items()) spaces_.push_back(s.as_string());
        for (const Json& b : j.at("blocks").items())
            blocks_.push_back(
                {static_cast<char32_t>(b.items()[0].as_int()), static_cast<char32_t>(b.items()[1].as_int())});
    }

    std::string operator()(uint64_t index) const {
        Draws d{CounterRng(20260801, index)};
        switch (index % 8) {
            case 3:
                return code_points(d);
            case 4:
                return ascii(d);
            case 5:
                return digits(d);
            case 6:
                return broken(d);
            case 7:
                return one_class(d);
            default:
                return words(d);
        }
    }

  private:
    struct Draws {
        CounterRng rng;
        uint64_t counter = 0;
        uint64_t below(uint64_t n) { return (rng.bits(counter++) >> 33) % n; }
    };
    struct Block {
        char32_t low, high;
    };

    std::string words(Draws& d) const {
        std::string s;
        for (uint64_t n = 1 + d.below(24); n > 0; --n) {
            s += words_[d.below(words_.size())];
            s += spaces_[d.below(spaces_.size())];
        }
        return s;
    }
    std::string code_points(Draws& d) const {
        std::string s;
        Block b = blocks_[d.below(blocks_.size())];
        for (uint64_t n = 1 + d.below(40); n > 0; --n) {
            if (d.below(4) == 0) b = blocks_[d.below(blocks_.size())];
            append_utf8(s, b.low + static_cast<char32_t>(d.below(b.high - b.low)));
        }
        return s;
    }
    static std::string ascii(Draws& d) {
        std::string s;
        for (uint64_t n = 1 + d.below(60); n > 0; --n) s += static_cast<char>(0x20 + d.below(0x5F));
        return s;
    }
    static std::string digits(Draws& d) {
        std::string s;
        for (uint64_t n = 1 + d.below(12); n > 0; --n) {
            for (uint64_t k = 1 + d.below(9); k > 0; --k) s += static_cast<char>('0' + d.below(10));
            s += " +-*/=.,:%"[d.below(10)];
        }
        return s;
    }
    std::string broken(Draws& d) const {
        std::string s = words(d);
        for (uint64_t n = 1 + d.below(8); n > 0; --n) {
            // the value is drawn before the place: Python evaluates the right-hand side first
            const char value = static_cast<char>(0x80 + d.below(0x80));
            s[d.below(s.size())] = value;
        }
        return s;
    }
    std::string one_class(Draws& d) const {
        const Block b = blocks_[d.below(blocks_.size())];
        std::string s;
        for (uint64_t n = 100 + d.below(300); n > 0; --n) {
            const uint64_t width = std::min<uint64_t>(b.high - b.low, 8);
            append_utf8(s, b.low + static_cast<char32_t>(d.below(1 + d.below(width))));
        }
        return s;
    }

    std::vector<std::string> words_, spaces_;
    std::vector<Block> blocks_;
};

}  // namespace vitrine::test
