// Text and conversations to token ids, fast: words that were seen before are looked up instead of merged again.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/text/chat.h"
#include "engine/text/tokenizer.h"
#include "experiments/curriculum/item.h"

namespace vitrine::curriculum {

// A tokenizer whose digits stand alone, with a memory. Ids are exactly tokenizer.encode's (tests/experiments has the
// comparison). One thread.
class CachedEncoder {
  public:
    explicit CachedEncoder(const text::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
    // `text` holds no names of control tokens.
    void append(std::string_view text, std::vector<int32_t>& ids);

  private:
    void append_word(std::string_view word, std::vector<int32_t>& ids);
    struct Hash {
        using is_transparent = void;
        size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
    };
    const text::Tokenizer& tokenizer_;
    std::unordered_map<std::string, std::vector<int32_t>, Hash, std::equal_to<>> seen_;
};

// The control tokens that a conversation needs (v4-spec 8.1).
struct ControlIds {
    int32_t bos, eos, user, assistant, think, end_think;
    explicit ControlIds(const text::Tokenizer& t);
};

struct Turn {
    std::string_view prompt, thinking, reply;
    size_t n_given = 0;  // bytes of the thinking, up to a digit, that were put into the assistant's mouth: not learnt
};

// A conversation as v4-spec 8.3 renders it: BOS, the mode's prefix, turns. Only the last turn of a thinking mode holds
// its thinking; earlier ones look like Non-think. `is_learnt[t]`: token t is one that the assistant writes.
struct EncodedConversation {
    std::vector<int32_t> ids;
    std::vector<bool> is_learnt;
};

class ConversationEncoder {
  public:
    ConversationEncoder(std::shared_ptr<const text::Tokenizer> tokenizer, text::ChatFormat format);
    EncodedConversation encode(const std::vector<Turn>& turns, Mode mode);
    CachedEncoder& words() { return words_; }
    const text::Tokenizer& tokenizer() const { return *tokenizer_; }

  private:
    std::shared_ptr<const text::Tokenizer> tokenizer_;
    text::ChatFormat format_;
    ControlIds control_;
    CachedEncoder words_;
};

}  // namespace vitrine::curriculum
