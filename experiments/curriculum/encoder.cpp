// Encoding with a memory.
#include "experiments/curriculum/encoder.h"

namespace vitrine::curriculum {
namespace {

constexpr size_t kMostWords = 1 << 18;

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

// Whether the character at i belongs to the Chinese range that pre-tokenizers cut out; unsure near the range's ends.
enum class Han : uint8_t { no, yes, unsure };
Han han_at(std::string_view s, size_t i) {
    const auto c = static_cast<unsigned char>(s[i]);
    if (c >= 0xE4 && c <= 0xE8) return Han::yes;
    return c == 0xE9 || (c == 0xE3 && i + 1 < s.size() && static_cast<unsigned char>(s[i + 1]) > 0x80) ? Han::unsure
                                                                                                       : Han::no;
}

// Places where every pre-tokenizer of V4's kind cuts: around a digit, before a single space that follows a word and
// precedes one, and where Chinese begins or ends. Between such places a text may be encoded by itself.
size_t word_end(std::string_view s, size_t begin) {
    if (is_digit(s[begin])) return begin + 1;
    Han before = Han::unsure;
    size_t i = begin;
    while (i < s.size()) {
        const auto c = static_cast<unsigned char>(s[i]);
        const Han here = han_at(s, i);
        if (i > begin) {
            if (is_digit(s[i])) break;
            if (s[i] == ' ' && !is_blank(s[i - 1]) && i + 1 < s.size() && !is_blank(s[i + 1])) break;
            if (here != before && here != Han::unsure && before != Han::unsure) break;
        }
        before = here;
        i += c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    }
    return i;
}

}  // namespace

void CachedEncoder::append(std::string_view text, std::vector<int32_t>& ids) {
    for (size_t begin = 0; begin < text.size();) {
        const size_t end = word_end(text, begin);
        append_word(text.substr(begin, end - begin), ids);
        begin = end;
    }
}

void CachedEncoder::append_word(std::string_view word, std::vector<int32_t>& ids) {
    auto at = seen_.find(word);
    if (at == seen_.end()) {
        if (seen_.size() >= kMostWords) seen_.clear();
        at = seen_.emplace(std::string(word), tokenizer_.encode(word)).first;
    }
    ids.insert(ids.end(), at->second.begin(), at->second.end());
}

ControlIds::ControlIds(const text::Tokenizer& t)
    : bos(t.need_id("<｜begin▁of▁sentence｜>")),
      eos(t.need_id("<｜end▁of▁sentence｜>")),
      user(t.need_id("<｜User｜>")),
      assistant(t.need_id("<｜Assistant｜>")),
      think(t.need_id("<think>")),
      end_think(t.need_id("</think>")) {}

ConversationEncoder::ConversationEncoder(std::shared_ptr<const text::Tokenizer> tokenizer, text::ChatFormat format)
    : tokenizer_(std::move(tokenizer)), format_(std::move(format)), control_(*tokenizer_), words_(*tokenizer_) {}

EncodedConversation ConversationEncoder::encode(const std::vector<Turn>& turns, Mode mode) {
    EncodedConversation e;
    const auto learn_rest = [&](bool is_learnt) { e.is_learnt.resize(e.ids.size(), is_learnt); };
    e.ids.push_back(control_.bos);
    if (mode != Mode::non_think)
        words_.append(format_.effort_prefix.at(text::RenderOptions::for_mode(mode).effort), e.ids);
    for (size_t i = 0; i < turns.size(); ++i) {
        e.ids.push_back(control_.user);
        words_.append(turns[i].prompt, e.ids);
        e.ids.push_back(control_.assistant);
        const bool thinks = mode != Mode::non_think && i + 1 == turns.size();
        e.ids.push_back(thinks ? control_.think : control_.end_think);
        learn_rest(false);
        if (thinks) {
            words_.append(turns[i].thinking.substr(0, turns[i].n_given), e.ids);
            learn_rest(false);
            words_.append(turns[i].thinking.substr(turns[i].n_given), e.ids);
            e.ids.push_back(control_.end_think);
        }
        words_.append(turns[i].reply, e.ids);
        e.ids.push_back(control_.eos);
        learn_rest(true);
    }
    return e;
}

}  // namespace vitrine::curriculum
