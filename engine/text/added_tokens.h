// Added tokens: names that are cut out of a text before anything else looks at it.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace vitrine::text {

struct AddedToken {
    int32_t id = 0;
    std::string_view name;  // lives as long as the tokenizer
    bool is_special = false, strips_left = false, strips_right = false, is_normalized = false;
};

// A set of names and the search for them: leftmost, longest, not overlapping. Time is at most text length × longest
// name.
class AddedTokenSet {
  public:
    // A stretch of the text: a token (index >= 0 into the list given to the constructor) or text between tokens (-1).
    struct Cut {
        size_t begin, end;
        int32_t token = -1;
    };
    AddedTokenSet() = default;
    explicit AddedTokenSet(std::vector<AddedToken> tokens);
    // Appends the stretches of text[begin, end) in order; none is empty. `steps` is raised by the bytes looked at.
    void cut(std::string_view text, size_t begin, size_t end, std::vector<Cut>& out, uint64_t& steps) const;
    const AddedToken& token(int32_t index) const { return tokens_[index]; }
    int32_t find(std::string_view name) const;  // index of exactly this name, or -1

  private:
    // Longest name starting at `at`, or -1.
    int32_t longest(std::string_view text, size_t at, size_t end, uint64_t& steps) const;

    struct Node {
        int32_t token = -1;
    };
    std::vector<AddedToken> tokens_;
    std::vector<Node> nodes_{1};
    std::unordered_map<uint64_t, uint32_t> edges_;  // (node << 8 | byte) to node
    std::array<bool, 256> starts_{};
};

}  // namespace vitrine::text
