// The conversation: messages with folded thinking, tokens that can be clicked, edits, branches, and the composer.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "viz/shell/desk.h"
#include "viz/widgets/text_flow.h"
#include "viz/widgets/wrapped_input.h"

namespace vitrine::viz {

// A text with the byte range of each of its tokens.
class TokenizedText {
  public:
    // Tokens of `phase` among `tokens`. Cheap when neither changed; grows with the text.
    void update(const std::string& raw, const std::vector<TokenInfo>& tokens, bool is_thinking, uint64_t version);
    // Draws, hovers and selects; no more than the first `most_lines`. `desk` may get a hover or a new cursor.
    void draw(Desk& desk, const std::vector<TokenInfo>& tokens, float width, const char* name,
              int64_t most_lines = INT64_MAX);
    int64_t n_lines(float width) { return flow_.n_lines(shown_, version_, width); }
    const std::string& shown() const { return shown_; }

  private:
    struct Span {
        size_t begin, end, token;  // bytes of `shown_`, index into the tokens
    };
    void align(const std::string& raw, const std::vector<TokenInfo>& tokens, bool is_thinking);
    std::string shown_;
    size_t n_raw_ = 0, n_tokens_ = 0;
    uint64_t version_ = ~uint64_t{0};
    std::vector<Span> spans_;  // ascending
    ui::TextFlow flow_;
};

class ChatPane {
  public:
    void draw(Desk& desk);
    void draw_caption(Desk& desk);  // presenter mode: the newest message in a few lines

  private:
    struct Message {
        TokenizedText thinking, answer;
        bool is_open = false, is_set = false;  // thinking unfolded; `is_set`: by the user
        bool is_whole = false;                 // a long message of the user, unfolded
        int last_frame = 0;
    };
    void draw_header(Desk& desk);
    void draw_messages(Desk& desk);
    void draw_suggestions(Desk& desk);
    void draw_turn(Desk& desk, const Turn& t, int index);
    void draw_live(Desk& desk);
    void draw_thinking(Desk& desk, Message& m, const std::vector<TokenInfo>& tokens, int n_tokens, bool is_live,
                       bool is_in_context, const std::string& name);
    void draw_content(Desk& desk, Message& m, const Turn& t, float width, const std::string& name);
    void draw_stats(const Turn& t, const std::string& name);
    void draw_tools(Desk& desk, const Turn& t, const std::string& name);
    void draw_editor(Desk& desk, const Turn& t);
    void draw_composer(Desk& desk);
    Message& message(int64_t turn, bool is_open);
    std::map<int64_t, Message> messages_;
    uint64_t conversation_version_ = 0;
    int64_t conversation_ = 0;
    const Conversation* last_ = nullptr;
    bool is_at_bottom_ = true;
    ui::WrappedInput composer_, editor_;
};

}  // namespace vitrine::viz
