// One conversation as a tree of turns: editing and regenerating make siblings, one path through the tree is shown.
//
// It also keeps which tokens each assistant's turn was generated from, by branch of the trace, so that a turn that left
// the context can still be selected. Owner: the engine thread. Plain data; knows neither files nor the engine.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/telemetry/chat.h"

namespace vitrine {

// A number that no other conversation or branch of this user has: microseconds since 1970, never twice in a process.
int64_t unique_id();

// What an assistant's turn was generated from: positions [0, n_prompt) of the branch are its prompt, [n_prompt,
// n_total) its own tokens.
struct TurnContext {
    uint64_t branch = 0;  // 0: nothing generated
    int64_t n_prompt = 0, n_total = 0, n_reused = 0;
    std::string prompt_text, reuse_reason;
    std::vector<PromptSegment> segments;
};

// A timeline of tokens that shares its first n_shared positions with another branch.
struct Branch {
    uint64_t parent = 0;  // 0: none
    int64_t n_shared = 0;
    std::vector<TokenInfo> tokens;  // from position n_shared on
    int64_t end() const { return n_shared + static_cast<int64_t>(tokens.size()); }
};

class ConversationTree {
  public:
    struct Node {
        Turn turn;
        TurnContext context;
    };

    ConversationTree() : id(unique_id()) {}

    // A new last child of turn.parent (0: a root), selected. Returns its id. The title comes from the first user's
    // text.
    int64_t add(Turn turn);
    void restore(Node node, bool is_selected);  // from a store: keeps turn.id
    bool has(int64_t turn) const { return nodes_.count(turn) != 0; }
    Node& at(int64_t turn);  // Error(bad_input) when there is no such turn
    const Node& at(int64_t turn) const;
    std::vector<int64_t> path() const;                 // ids from the first turn to the last shown one
    std::vector<int64_t> path_to(int64_t turn) const;  // from the first turn to this one, whatever is selected
    std::vector<int64_t> siblings(int64_t turn) const;
    void select(int64_t turn);  // and its ancestors
    void select_sibling(int64_t turn, int sibling);
    bool is_selected(int64_t turn) const;
    bool is_empty() const { return nodes_.empty(); }
    const std::map<int64_t, Node>& nodes() const { return nodes_; }

    // The tokens of a branch in [begin, end), through its parents. Shorter when they are not known.
    std::vector<TokenInfo> tokens(uint64_t branch, int64_t begin, int64_t end) const;
    // The timeline of an assistant's turn as it was when generated; empty for other turns.
    Timeline timeline(int64_t turn) const;
    std::shared_ptr<const Conversation> publish() const;

    int64_t id;
    std::string title, system;
    bool is_recorded = false;
    std::map<uint64_t, Branch> branches;

  private:
    const std::vector<int64_t>& children(int64_t parent) const;
    std::map<int64_t, Node> nodes_;
    std::map<int64_t, std::vector<int64_t>> children_;  // by parent, 0: the roots; in order of creation
    std::map<int64_t, int64_t> selected_;               // by parent
    int64_t next_turn_ = 1;
};

// The path as a document. Reasoning goes into a folded block (Markdown) or "reasoning_content" (OpenAI message form).
std::string to_markdown(const Conversation& c);
std::string to_json(const Conversation& c, const std::string& model);

}  // namespace vitrine
