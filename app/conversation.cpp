// The tree of turns, and its export.
#include "app/conversation.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "engine/base/error.h"
#include "engine/base/json.h"

namespace vitrine {

int64_t unique_id() {
    static std::atomic<int64_t> last{0};
    using namespace std::chrono;
    const int64_t now = duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
    int64_t before = last.load(), id;
    do id = std::max(now, before + 1);
    while (!last.compare_exchange_weak(before, id));
    return id;
}

namespace {
// The first line of a message, at most 60 bytes of whole UTF-8.
std::string title_of(const std::string& text) {
    std::string line = text.substr(0, text.find('\n'));
    if (line.size() > 60) {
        size_t end = 60;
        while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0) == 0x80) --end;
        line = line.substr(0, end) + "…";
    }
    return line;
}
}  // namespace

int64_t ConversationTree::add(Turn turn) {
    if (turn.parent != 0) at(turn.parent);
    turn.id = next_turn_++;
    if (title.empty() && turn.role == "user") title = title_of(turn.content);
    const int64_t id_of_turn = turn.id, parent = turn.parent;
    children_[parent].push_back(id_of_turn);
    selected_[parent] = id_of_turn;
    nodes_[id_of_turn] = {std::move(turn), {}};
    return id_of_turn;
}

void ConversationTree::restore(Node node, bool is_selected) {
    const int64_t turn = node.turn.id, parent = node.turn.parent;
    // Parents are older than their children, so a cycle can't be built from a damaged file.
    if (turn <= 0 || has(turn) || (parent != 0 && (parent >= turn || !has(parent))))
        throw Error(ErrorKind::bad_input, "turn " + std::to_string(turn) + " does not fit into the tree: parent " +
                                              std::to_string(parent) + ", expected an older turn or 0");
    next_turn_ = std::max(next_turn_, turn + 1);
    children_[parent].push_back(turn);
    if (is_selected || !selected_.count(parent)) selected_[parent] = turn;
    nodes_[turn] = std::move(node);
}

ConversationTree::Node& ConversationTree::at(int64_t turn) {
    const auto it = nodes_.find(turn);
    if (it == nodes_.end())
        throw Error(ErrorKind::bad_input, "turn " + std::to_string(turn) + " is not part of this conversation");
    return it->second;
}
const ConversationTree::Node& ConversationTree::at(int64_t turn) const {
    return const_cast<ConversationTree*>(this)->at(turn);
}

const std::vector<int64_t>& ConversationTree::children(int64_t parent) const {
    static const std::vector<int64_t> none;
    const auto it = children_.find(parent);
    return it == children_.end() ? none : it->second;
}

std::vector<int64_t> ConversationTree::path() const {
    std::vector<int64_t> out;
    for (auto it = selected_.find(0); it != selected_.end(); it = selected_.find(it->second)) out.push_back(it->second);
    return out;
}

std::vector<int64_t> ConversationTree::path_to(int64_t turn) const {
    std::vector<int64_t> out;
    for (int64_t t = turn; t != 0; t = at(t).turn.parent) out.push_back(t);
    std::reverse(out.begin(), out.end());
    return out;
}

std::vector<int64_t> ConversationTree::siblings(int64_t turn) const {
    return children(at(turn).turn.parent);
}

void ConversationTree::select(int64_t turn) {
    for (int64_t t : path_to(turn)) selected_[at(t).turn.parent] = t;
}

void ConversationTree::select_sibling(int64_t turn, int sibling) {
    const std::vector<int64_t> all = siblings(turn);
    if (sibling < 0 || sibling >= static_cast<int>(all.size()))
        throw Error(ErrorKind::bad_input, "there is no version " + std::to_string(sibling + 1) +
                                              " of this turn: it has " + std::to_string(all.size()));
    select(all[sibling]);
}

bool ConversationTree::is_selected(int64_t turn) const {
    const auto it = selected_.find(at(turn).turn.parent);
    return it != selected_.end() && it->second == turn;
}

std::vector<TokenInfo> ConversationTree::tokens(uint64_t branch, int64_t begin, int64_t end) const {
    const auto it = branches.find(branch);
    if (it == branches.end() || begin >= end) return {};
    const Branch& b = it->second;
    std::vector<TokenInfo> out;
    if (begin < b.n_shared && b.parent != branch) out = tokens(b.parent, begin, std::min(end, b.n_shared));
    for (TokenInfo& t : out) t.ref.branch = branch;  // the trace shares the records under the new branch too
    for (int64_t p = std::max(begin, b.n_shared); p < std::min(end, b.end()); ++p)
        out.push_back(b.tokens[p - b.n_shared]);
    return out;
}

Timeline ConversationTree::timeline(int64_t turn) const {
    const TurnContext& c = at(turn).context;
    Timeline t;
    if (c.branch == 0) return t;
    t.branch = c.branch;
    t.tokens = tokens(c.branch, 0, c.n_total);
    t.segments = c.segments;
    t.prompt_text = c.prompt_text;
    t.n_prompt = c.n_prompt;
    t.n_reused = c.n_reused;
    t.reuse_reason = c.reuse_reason;
    return t;
}

std::shared_ptr<const Conversation> ConversationTree::publish() const {
    auto c = std::make_shared<Conversation>();
    c->id = id;
    c->title = title;
    c->system = system;
    c->is_recorded = is_recorded;
    for (int64_t t : path()) {
        const Node& node = at(t);
        Turn turn = node.turn;
        const auto& all = children(turn.parent);
        turn.n_siblings = static_cast<int>(all.size());
        turn.sibling = static_cast<int>(std::find(all.begin(), all.end(), t) - all.begin());
        turn.is_reasoning_in_context = false;  // dropped from earlier turns (v4-spec 8.3, step 5)
        if (node.context.branch) turn.tokens = tokens(node.context.branch, node.context.n_prompt, node.context.n_total);
        c->path.push_back(std::move(turn));
    }
    if (!c->path.empty()) c->path.back().is_reasoning_in_context = true;
    return c;
}

std::string to_markdown(const Conversation& c) {
    std::string s = "# " + (c.title.empty() ? std::string("Conversation") : c.title) + "\n";
    if (!c.system.empty()) s += "\n**System**\n\n" + c.system + "\n";
    for (const Turn& t : c.path) {
        std::string who = t.role;
        if (!who.empty()) who[0] = static_cast<char>(who[0] >= 'a' && who[0] <= 'z' ? who[0] - 'a' + 'A' : who[0]);
        s += "\n## " + who + (t.role == "assistant" ? std::string(" (") + mode_title(t.mode) + ")" : "") + "\n\n";
        if (!t.reasoning.empty())
            s += "<details><summary>Thinking, " + std::to_string(t.stats.n_thinking) + " tokens</summary>\n\n" +
                 t.reasoning + "\n\n</details>\n\n";
        s += t.content + "\n";
    }
    return s;
}

std::string to_json(const Conversation& c, const std::string& model) {
    Json root = Json::object();
    root.set("title", c.title);
    root.set("model", model);
    Json messages = Json::array();
    const auto message = [](const std::string& role, const std::string& content) {
        Json m = Json::object();
        m.set("role", role);
        m.set("content", content);
        return m;
    };
    if (!c.system.empty()) messages.push(message("system", c.system));
    for (const Turn& t : c.path) {
        Json m = message(t.role, t.content);
        if (!t.reasoning.empty()) m.set("reasoning_content", t.reasoning);
        if (t.role == "assistant") {
            m.set("mode", mode_name(t.mode));
            m.set("stop", t.stats.stop_reason);
        }
        messages.push(std::move(m));
    }
    root.set("messages", std::move(messages));
    return root.dump(2) + "\n";
}

}  // namespace vitrine
