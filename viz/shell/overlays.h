// The windows over the frame, one at a time: palette, find, conversations, rendered prompt, sampling, settings, open
// folder, notices, keyboard. Each draws its content; the workspace owns the surrounding popup.
#pragma once
#include <future>
#include <string>
#include <vector>

#include "viz/shell/actions.h"
#include "viz/shell/desk.h"
#include "viz/widgets/token_text.h"

namespace vitrine::viz {

// Typed words over all actions; Ctrl+F adds tokens, layers and experts.
class Palette {
  public:
    void draw(Desk& desk, const std::vector<Action>& actions, bool is_find);

  private:
    struct Hit {
        std::string title, detail;
        std::function<void()> run;
    };
    void collect(Desk& desk, const std::vector<Action>& actions, bool is_find);
    void collect_places(Desk& desk);
    void collect_settings(Desk& desk);
    void collect_exports();
    void search_tokens(Desk& desk);
    std::string query_, searched_;
    std::vector<Hit> hits_;
    std::vector<TokenRef> found_;
    int64_t n_searched_ = 0;  // tokens looked at so far for `query_`
    int selected_ = 0;
};

class ConversationList {
  public:
    void draw(Desk& desk);

  private:
    void draw_row(Desk& desk, const ConversationSummary& c);
    std::string search_, title_;
    int64_t renamed_ = 0, deleted_ = 0;  // rows in another state
    bool is_renaming_new_ = false;
};

class PromptView {
  public:
    void draw(Desk& desk);

  private:
    ui::TokenText text_;
    bool shows_ids_ = false;
    std::vector<TokenInfo> ids_;  // the tokens with their ids as text
    uint64_t ids_version_ = ~uint64_t{0};
};

class FileBrowser {
  public:
    void draw(Desk& desk);

  private:
    struct Entry {
        std::string name;
        bool is_model = false;  // has a config.json
    };
    struct Listing {
        std::string folder, error;
        bool is_model = false;
        std::vector<Entry> entries;
    };
    static Listing list(const std::string& folder);
    void go(const std::string& folder);
    void draw_entries(Desk& desk, float height);
    void open(Desk& desk, const std::string& folder);
    Listing shown_;
    std::string typed_;
    std::future<Listing> coming_;  // read on another thread: a slow disk must not stop the window
};

void draw_sampling(Desk& desk);
void draw_settings(Desk& desk);
void draw_notices(Desk& desk);
void draw_keys(const std::vector<Action>& actions);

}  // namespace vitrine::viz
