// tokenizer_lines FILE: each line of hex on stdin as ids, then decoded, then without special tokens (tests/parity).
#include <cstdio>
#include <iostream>
#include <string>

#include "engine/base/error.h"
#include "engine/text/tokenizer.h"

namespace {

void print_hex(const std::string& s) {
    std::printf("|");
    for (const unsigned char c : s) std::printf("%02x", c);
}

}  // namespace

int main(int n, char** args) {
    if (n != 2) return std::fprintf(stderr, "usage: tokenizer_lines tokenizer.json < LINES\n"), 2;
    try {
        const auto tokenizer = vitrine::text::Tokenizer::load(args[1]);
        for (std::string line; std::getline(std::cin, line);) {
            std::string text;
            for (size_t i = 0; i + 1 < line.size(); i += 2)
                text += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
            const std::vector<int32_t> ids = tokenizer->encode(text);
            for (const int32_t id : ids) std::printf("%d ", id);
            print_hex(tokenizer->decode(ids));
            print_hex(tokenizer->decode(ids, true));
            std::printf("\n");
        }
    } catch (const vitrine::Error& e) {
        return std::fprintf(stderr, "%s\n", e.what()), 2;
    }
}
