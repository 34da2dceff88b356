// Conversations from disk: every value is checked, since the file may be damaged where SQLite can't see it.
#include <limits>

#include "app/store_impl.h"
#include "engine/base/json.h"

namespace vitrine {
namespace {

template <class T>
T in_range(int64_t v, int64_t lowest, int64_t highest, const std::string& file, const char* what) {
    if (v < lowest || v > highest)
        throw DamagedStore(escaped(file, 512) + ": " + what + " = " + std::to_string(v) + ": expected a value in [" +
                           std::to_string(lowest) + ", " + std::to_string(highest) + "]");
    return static_cast<T>(v);
}
constexpr int64_t kMaxPosition = int64_t{1} << 40;

void load_branches(sql::Database& db, int64_t id, ConversationTree& tree) {
    sql::Statement s(db, "SELECT branch, parent, n_shared FROM branches WHERE conversation=? ORDER BY branch");
    s.bind(1, id);
    while (s.step()) {
        const int64_t branch = in_range<int64_t>(s.integer(0), 1, INT64_MAX, db.path(), "branch");
        Branch b;
        // Parents are older, so their numbers are smaller: no cycle can be read.
        b.parent = in_range<uint64_t>(s.integer(1), 0, branch - 1, db.path(), "parent of a branch");
        b.n_shared = in_range<int64_t>(s.integer(2), 0, kMaxPosition, db.path(), "n_shared");
        tree.branches[branch] = std::move(b);
    }
}

void load_tokens(sql::Database& db, int64_t id, LoadedConversation& out) {
    sql::Statement s(db,
                     "SELECT branch, position, id, phase, is_special, probability, entropy, text, record FROM tokens "
                     "WHERE conversation=? ORDER BY branch, position");
    s.bind(1, id);
    while (s.step()) {
        const auto it = out.tree.branches.find(s.integer(0));
        if (it == out.tree.branches.end()) throw DamagedStore(escaped(db.path(), 512) + ": a token of no branch");
        // A gap means that a batch of tokens was never written (the queue overflowed): what follows can't be placed.
        if (s.integer(1) != it->second.end()) continue;
        StoredToken t;
        t.branch = it->first;
        t.token.ref = {it->first, s.integer(1)};
        t.token.id = in_range<int32_t>(s.integer(2), 0, INT32_MAX, db.path(), "token id");
        t.token.phase =
            static_cast<Phase>(in_range<int>(s.integer(3), 0, static_cast<int>(Phase::tool_call), db.path(), "phase"));
        t.token.is_special = s.integer(4) != 0;
        t.token.probability = static_cast<float>(s.real(5));
        t.token.entropy = static_cast<float>(s.real(6));
        t.token.text = s.text(7);
        it->second.tokens.push_back(t.token);
        if (s.is_null(8)) {
            ++out.n_tokens_without_record;
            continue;
        }
        t.record = TokenRecord::parse(s.text(8), db.path());
        out.records.push_back(std::move(t));
    }
}

void load_turns(sql::Database& db, int64_t id, ConversationTree& tree) {
    sql::Statement s(
        db,
        "SELECT id, parent, is_selected, role, content, reasoning, mode, sampling, stats, is_complete, branch, "
        "n_prompt, n_total, n_reused, reuse_reason, prompt_text, segments FROM turns WHERE conversation=? "
        "ORDER BY id");
    s.bind(1, id);
    while (s.step()) {
        ConversationTree::Node node;
        Turn& t = node.turn;
        t.id = s.integer(0);
        t.parent = s.integer(1);
        t.role = s.text(3);
        t.content = s.text(4);
        t.reasoning = s.text(5);
        t.mode = static_cast<Mode>(in_range<int>(s.integer(6), 0, static_cast<int>(Mode::max), db.path(), "mode"));
        t.sampling = sampling_from_json(s.text(7), db.path());
        stats_from_json(s.text(8), db.path(), t);
        t.is_complete = s.integer(9) != 0;
        TurnContext& c = node.context;
        c.branch = in_range<uint64_t>(s.integer(10), 0, INT64_MAX, db.path(), "branch");
        c.n_prompt = in_range<int64_t>(s.integer(11), 0, kMaxPosition, db.path(), "n_prompt");
        c.n_total = in_range<int64_t>(s.integer(12), 0, kMaxPosition, db.path(), "n_total");
        c.n_reused = in_range<int64_t>(s.integer(13), 0, kMaxPosition, db.path(), "n_reused");
        c.reuse_reason = s.text(14);
        c.prompt_text = s.text(15);
        c.segments = segments_from_json(s.text(16), db.path());
        if (!t.is_complete && t.stats.stop_reason.empty()) t.stats.stop_reason = "the program ended";
        tree.restore(std::move(node), s.integer(2) != 0);
    }
}

}  // namespace

LoadedConversation Store::load(int64_t conversation) {
    sql::Database& db = impl_->db;
    sql::Statement head(db, "SELECT title, system, model FROM conversations WHERE id=?");
    head.bind(1, conversation);
    if (!head.step())
        throw Error(ErrorKind::bad_input,
                    "there is no conversation " + std::to_string(conversation) + " in " + escaped(db.path(), 512));
    LoadedConversation out;
    out.tree.id = conversation;
    out.tree.title = head.text(0);
    out.tree.system = head.text(1);
    out.tree.is_recorded = true;
    out.model = head.text(2);
    load_branches(db, conversation, out.tree);
    load_tokens(db, conversation, out);
    load_turns(db, conversation, out.tree);
    return out;
}

std::string sampling_to_json(const Sampling& s) {
    Json j = Json::object();
    j.set("temperature", s.temperature);
    j.set("top_k", s.top_k);
    j.set("top_p", s.top_p);
    j.set("min_p", s.min_p);
    j.set("repetition_penalty", s.repetition_penalty);
    j.set("seed", std::to_string(s.seed));  // text: JSON numbers stop being exact at 2^53 for other readers
    j.set("max_new_tokens", s.max_new_tokens);
    Json stop = Json::array();
    for (const std::string& x : s.stop) stop.push(x);
    j.set("stop", std::move(stop));
    return j.dump();
}

Sampling sampling_from_json(const std::string& text, const std::string& file) {
    const Json j = Json::parse(text, file);
    Sampling s;
    s.temperature = j.at("temperature").as_double();
    s.top_k = in_range<int>(j.at("top_k").as_int(), 0, INT32_MAX, file, "top_k");
    s.top_p = j.at("top_p").as_double();
    s.min_p = j.at("min_p").as_double();
    s.repetition_penalty = j.at("repetition_penalty").as_double();
    s.seed = 0;
    for (char c : j.at("seed").as_string()) s.seed = s.seed * 10 + static_cast<uint64_t>(c - '0');
    s.max_new_tokens = in_range<int>(j.at("max_new_tokens").as_int(), 0, INT32_MAX, file, "max_new_tokens");
    for (const Json& x : j.at("stop").items()) s.stop.push_back(x.as_string());
    return s;
}

std::string stats_to_json(const Turn& t) {
    const TurnStats& s = t.stats;
    Json j = Json::object();
    j.set("n_prompt", s.n_prompt);
    j.set("n_reused", s.n_reused);
    j.set("n_thinking", s.n_thinking);
    j.set("n_answer", s.n_answer);
    j.set("prefill_ms", s.prefill_ms);
    j.set("decode_ms", s.decode_ms);
    j.set("tokens_per_s", s.tokens_per_s);
    j.set("first_token_ms", s.first_token_ms);
    j.set("stop_reason", s.stop_reason);
    if (!t.model.empty()) j.set("model", t.model);
    if (!t.numerics.empty()) j.set("numerics", t.numerics);
    return j.dump();
}

void stats_from_json(const std::string& text, const std::string& file, Turn& to) {
    const Json j = Json::parse(text, file);
    const auto count = [&](const char* key) { return in_range<int>(j.at(key).as_int(), 0, INT32_MAX, file, key); };
    TurnStats& s = to.stats;
    s.n_prompt = count("n_prompt");
    s.n_reused = count("n_reused");
    s.n_thinking = count("n_thinking");
    s.n_answer = count("n_answer");
    s.prefill_ms = j.at("prefill_ms").as_double();
    s.decode_ms = j.at("decode_ms").as_double();
    s.tokens_per_s = j.at("tokens_per_s").as_double();
    s.first_token_ms = j.at("first_token_ms").as_double();
    s.stop_reason = j.at("stop_reason").as_string();
    if (const Json* model = j.find("model")) to.model = model->as_string();
    if (const Json* numerics = j.find("numerics")) to.numerics = numerics->as_string();
}

std::string segments_to_json(const std::vector<PromptSegment>& segments) {
    Json a = Json::array();
    for (const PromptSegment& s : segments) {
        Json j = Json::object();
        j.set("what", s.what);
        j.set("begin", s.begin);
        j.set("end", s.end);
        j.set("turn", s.turn);
        a.push(std::move(j));
    }
    return a.dump();
}

std::vector<PromptSegment> segments_from_json(const std::string& text, const std::string& file) {
    std::vector<PromptSegment> out;
    const Json all = Json::parse(text, file, {.max_bytes = 64 << 20});
    for (const Json& j : all.items())
        out.push_back({j.at("what").as_string(), j.at("begin").as_int(), j.at("end").as_int(), j.at("turn").as_int()});
    return out;
}

}  // namespace vitrine
