// The pre_tokenizer of tokenizer.json: text between added tokens cut into the pieces that BPE may merge within.
//
// Supported: Split (known Regex patterns or a fixed String; the five behaviours; invert), Digits, ByteLevel, Sequence
// of these. Anything else is refused by name. The byte-to-character mapping of ByteLevel is done by the tokenizer,
// which works on bytes.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/json.h"
#include "engine/text/split_pattern.h"

namespace vitrine::text {

// A piece of the segment: its bytes [begin, end) and whether a space that is not in the text comes first
// (add_prefix_space; then the range of bytes may be empty).
struct Piece {
    uint32_t begin = 0, end = 0;
    bool has_prefix_space = false;
};

class PreTokenizer {
    struct Range {
        uint32_t begin, end;  // code points; small, as a text may have millions
    };

  public:
    // The pieces of one segment after another, and the memory that finding them takes.
    class Pieces {
      public:
        size_t size() const { return ranges_.size(); }
        Piece operator[](size_t k) const {
            const auto [begin, end] = ranges_[k];
            const auto& at = points_.at;
            return {at[begin], at[end], at[begin] == at[begin + 1]};  // an inserted space covers no byte
        }
        size_t held_bytes() const {
            return points_.held_bytes() + spaced_.held_bytes() +
                   (ranges_.capacity() + next_.capacity()) * sizeof(Range);
        }

      private:
        friend class PreTokenizer;
        Points points_, spaced_;
        std::vector<Range> ranges_, next_;
    };

    // Throws Error(bad_input) naming `file` and the key. `j` is the value of "pre_tokenizer".
    static PreTokenizer from_json(const Json& j, const std::string& file);

    // `segment` is valid UTF-8 without added tokens. Pieces come in order, are not empty, and cover it unless a stage
    // removes its matches. `steps` is raised by the code points looked at.
    void cut(std::string_view segment, Pieces& out, uint64_t& steps) const;
    std::vector<Piece> pieces(std::string_view segment, uint64_t& steps) const;  // the same as a list

  private:
    enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
    struct Stage {
        SplitPattern pattern;
        Behavior behavior = Behavior::isolated;
        bool is_inverted = false;
        bool is_splitting = true;        // false: only adds the prefix space
        bool adds_prefix_space = false;  // ByteLevel with add_prefix_space: before splitting, to every piece
    };
    void add(const Json& j, const std::string& file, const std::string& key);
    void add_split(const Json& j, const std::string& file, const std::string& key);
    void add_byte_level(const Json& j, const std::string& file, const std::string& key);
    static void split(const Stage& s, const Points& p, const Range& in, std::vector<Range>& out);
    static void add_prefix_spaces(Pieces& pieces);

    std::vector<Stage> stages_;
    bool is_byte_level_ = false;
};

}  // namespace vitrine::text
