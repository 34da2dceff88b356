// Damaged copies of good files.
#include "tests/fuzz/mutate.h"

#include <algorithm>
#include <cctype>
#include <vector>

namespace vitrine::test {
namespace {

constexpr uint64_t kEdges[] = {0,
                               1,
                               0x7F,
                               0x80,
                               0xFF,
                               0x7FFF,
                               0x8000,
                               0xFFFF,
                               0x7FFFFFFF,
                               0x80000000,
                               0xFFFFFFFF,
                               0x100000000,
                               1ull << 40,
                               0x7FFFFFFFFFFFFFFF,
                               0x8000000000000000,
                               0xFFFFFFFFFFFFFFFF};
const char* const kTexts[] = {"0",
                              "-1",
                              "1",
                              "4",
                              "127",
                              "128",
                              "65536",
                              "2147483647",
                              "2147483648",
                              "4294967296",
                              "9007199254740993",
                              "9223372036854775807",
                              "9223372036854775808",
                              "18446744073709551615",
                              "18446744073709551616",
                              "-9223372036854775809",
                              "1e400",
                              "-0",
                              "0.5",
                              "1e-320",
                              "NaN",
                              "Infinity",
                              "null",
                              "true",
                              "[]",
                              "{}",
                              "\"x\"",
                              "\"\"",
                              "\"\\ud800\"",
                              "\"\\u0000\"",
                              "\"\\u202e\"",
                              "[[]]",
                              "\"F64\"",
                              "\"I8\"",
                              "\"../x\"",
                              "\"/etc/passwd\"",
                              "{\"a\":{\"a\":{}}}"};

// [begin, end) of a random literal: a string with its quotes, or a number.
std::pair<size_t, size_t> literal(const std::string& s, Mutator& m, bool strings) {
    const auto digit = [&](size_t i) { return std::isdigit(static_cast<unsigned char>(s[i])) != 0; };
    const size_t start = m.below(s.size());
    for (size_t k = 0; k < s.size(); ++k) {
        const size_t i = (start + k) % s.size();
        if (strings && s[i] == '"') {
            size_t j = i + 1;
            while (j < s.size() && s[j] != '"') j += s[j] == '\\' ? 2 : 1;
            return {i, std::min(j + 1, s.size())};
        }
        if (!strings && digit(i)) {
            size_t b = i, e = i;
            while (b > 0 && digit(b - 1)) --b;
            while (e < s.size() && digit(e)) ++e;
            return {b, e};
        }
    }
    return {0, 0};
}

}  // namespace

void Mutator::one_binary(std::string& s) {
    const size_t at = below(s.size() + 1), n = std::min<size_t>(below(64) + 1, s.size() - at);
    switch (below(9)) {
        case 0:
            if (at < s.size()) s[at] = static_cast<char>(s[at] ^ 1 << below(8));
            break;
        case 1:
            if (at < s.size()) s[at] = static_cast<char>(below(256));
            break;
        case 2:
            s.insert(at, std::string(below(16) + 1, static_cast<char>(below(256))));
            break;
        case 3:
            s.erase(at, n);
            break;
        case 4:
            s.insert(below(s.size() + 1), s.substr(at, n));
            break;
        case 5:
            s.resize(at);
            break;
        case 6:
            s += std::string(below(32) + 1, '\0');
            break;
        case 7: {
            const uint64_t v = kEdges[below(std::size(kEdges))] + below(3) - 1;
            const size_t size = size_t{1} << below(4), place = below(2) ? at : below(8) * 8;
            for (size_t i = 0; i < size && place + i < s.size(); ++i) s[place + i] = static_cast<char>(v >> (8 * i));
            break;
        }
        case 8: {
            const std::string piece = s.substr(at, n);
            const size_t to = below(s.size() + 1);
            s.replace(to, std::min(piece.size(), s.size() - to), piece);
            break;
        }
    }
}

void Mutator::one_json(std::string& s) {
    const bool strings = below(2) != 0;
    const auto [b, e] = literal(s, *this, strings);
    switch (below(8)) {
        case 0:
        case 1:
            s.replace(b, e - b, kTexts[below(std::size(kTexts))]);
            break;
        case 2: {  // another literal of the same file in its place
            const auto [b2, e2] = literal(s, *this, below(4) ? strings : !strings);
            s.replace(b, e - b, s.substr(b2, e2 - b2));
            break;
        }
        case 3: {  // a member or element twice, or gone
            const size_t from = s.find(',', below(s.size() + 1));
            const size_t to = from == s.npos ? s.npos : s.find(',', from + 1);
            if (to == s.npos) break;
            if (below(2))
                s.insert(from, s.substr(from, to - from));
            else
                s.erase(from, to - from);
            break;
        }
        case 4:
            s.insert(b, std::string(below(100) + 1, '['));
            break;
        case 5:
            s.insert(b, std::string(below(60000) + 1, below(2) ? '[' : '9'));
            break;
        case 6: {
            const size_t at = s.find_first_of("{}[]:,", below(s.size() + 1));
            if (at != s.npos) s[at] = "{}[]:,"[below(6)];
            break;
        }
        case 7:
            one_binary(s);
            break;
    }
}

std::string Mutator::bytes(std::string s) {
    for (uint64_t n = below(4) + 1; n-- > 0;) one_binary(s);
    return s;
}

std::string Mutator::json(std::string s) {
    for (uint64_t n = below(4) + 1; n-- > 0;) s.empty() ? one_binary(s) : one_json(s);
    return s;
}

}  // namespace vitrine::test
