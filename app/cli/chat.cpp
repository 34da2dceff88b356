// vitrine chat: answers one prompt, or talks in the terminal.
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "app/cli/common.h"
#include "app/cli/ranks.h"
#include "app/dialogue.h"
#include "engine/base/json.h"
#include "engine/base/reader.h"

namespace vitrine::cli {
namespace {

struct ChatArgs {
    ModelArgs model;
    SamplingArgs sampling;
    std::string prompt, file, system, mode = "non-think";
    int64_t n_drafts = 0;
    bool is_json = false;
};

// The answer goes to stdout, so that it can be used by a script; thinking, being about the answer, goes to stderr.
struct Printer {
    bool is_dim = isatty(STDERR_FILENO) != 0;
    bool is_thinking = false;
    void print(const std::string& reasoning, const std::string& content) {
        if (!reasoning.empty()) {
            if (!is_thinking) std::fputs(is_dim ? "\x1b[2m" : "thinking: ", stderr);
            is_thinking = true;
            std::fputs(reasoning.c_str(), stderr);
        }
        if (!content.empty()) {
            end_thinking();
            std::fwrite(content.data(), 1, content.size(), stdout);
            std::fflush(stdout);
        }
    }
    void end_thinking() {
        if (is_thinking) std::fputs(is_dim ? "\x1b[0m\n" : "\n", stderr);
        is_thinking = false;
    }
};

Json ids_to_json(const std::vector<TokenInfo>& tokens, int64_t begin, int64_t end) {
    Json a = Json::array();
    for (int64_t i = begin; i < end; ++i) a.push(int64_t{tokens[i].id});
    return a;
}

std::string result_json(const ConversationTree& tree, int64_t answer, const Engine& engine) {
    const auto& node = tree.at(answer);
    const Timeline t = tree.timeline(answer);
    const TurnStats& s = node.turn.stats;
    Json j = Json::object();
    j.set("model", engine.info().name);
    j.set("numerics", numerics_name(engine.numerics()));
    j.set("mode", mode_name(node.turn.mode));
    j.set("seed", node.turn.sampling.seed);
    j.set("prompt_ids", ids_to_json(t.tokens, 0, t.n_prompt));
    j.set("output_ids", ids_to_json(t.tokens, t.n_prompt, static_cast<int64_t>(t.tokens.size())));
    j.set("reasoning", node.turn.reasoning);
    j.set("answer", node.turn.content);
    j.set("stop", s.stop_reason);
    Json timings = Json::object();
    timings.set("load_ms", engine.info().load_ms);
    timings.set("prefill_ms", s.prefill_ms);
    timings.set("first_token_ms", s.first_token_ms);
    timings.set("decode_ms", s.decode_ms);
    timings.set("tokens_per_s", s.tokens_per_s);
    timings.set("n_prompt", s.n_prompt);
    timings.set("n_reused", s.n_reused);
    timings.set("n_thinking", s.n_thinking);
    timings.set("n_answer", s.n_answer);
    j.set("timings", std::move(timings));
    if (s.n_drafted > 0) {
        Json drafts = Json::object();
        drafts.set("passes", s.n_passes);
        drafts.set("drafted", s.n_drafted);
        drafts.set("accepted", s.n_accepted);
        j.set("drafts", std::move(drafts));
    }
    return j.dump();
}

int64_t ask(Dialogue& d, int64_t parent, const std::string& text, Mode mode, const Sampling& sampling, bool is_quiet,
            Interrupt& interrupt) {
    Turn turn;
    turn.parent = parent;
    turn.role = "user";
    turn.content = text;
    const int64_t asked = d.tree().add(std::move(turn));
    Printer printer;
    std::string printed;
    AnswerObserver observer;
    if (!is_quiet)
        observer.token = [&](const TokenInfo&, const std::string& reasoning, const std::string& content) {
            printer.print(reasoning, content);
            printed += content;
        };
    struct Running {
        Interrupt& i;
        std::stop_token token;
        ~Running() { i.end(); }
    } running{interrupt, interrupt.begin()};
    const int64_t answer = d.answer(asked, mode, sampling, observer, running.token);
    const Turn& done = d.tree().at(answer).turn;
    if (!is_quiet) {
        printer.end_thinking();
        // What was held back in case it was the start of a stop string or a tag.
        if (done.content.starts_with(printed)) std::fputs(done.content.c_str() + printed.size(), stdout);
        std::fputs("\n", stdout);
        std::fflush(stdout);
        std::string drafts;
        if (done.stats.n_drafted > 0)
            drafts = "; " + std::to_string(done.stats.n_accepted) + " of " + std::to_string(done.stats.n_drafted) + " drafts right";
        std::fprintf(stderr, "[%s; %d prompt tokens (%d reused), %d thinking, %d answer; %.0f tokens/s%s]\n",
                     done.stats.stop_reason.c_str(), done.stats.n_prompt, done.stats.n_reused, done.stats.n_thinking,
                     done.stats.n_answer, done.stats.tokens_per_s, drafts.c_str());
    }
    return answer;
}

void talk(Dialogue& d, ChatArgs& a, const Sampling& sampling, Interrupt& interrupt) {
    std::fprintf(stderr,
                 "Type a message. /non-think, /high and /max choose the mode (now %s), /new starts over, /quit ends.\n",
                 a.mode.c_str());
    int64_t last = 0;
    std::string line;
    for (;;) {
        if (isatty(STDIN_FILENO)) std::fputs("> ", stderr);
        if (!std::getline(std::cin, line) || line == "/quit") return;
        if (line.empty()) continue;
        const std::string word = line.substr(1);
        if (line == "/new") {
            ConversationTree tree;
            tree.system = a.system;
            d.replace(std::move(tree));
            last = 0;
        } else if (line[0] == '/' && (word == "non-think" || word == "high" || word == "max")) {
            a.mode = word;
            std::fprintf(stderr, "mode: %s\n", word.c_str());
        } else if (line[0] == '/') {
            std::fprintf(stderr, "unknown command %s\n", escaped(line).c_str());
        } else {
            // An error of one message is told, and the conversation goes on.
            try {
                last = ask(d, last, line, mode_from_name(a.mode), sampling, false, interrupt);
            } catch (const Error& e) {
                std::fprintf(stderr, "vitrine: %s\n", e.what());
            }
        }
    }
}

// On rank 0, or in the only process.
int lead(const Args& args, Communicator& ranks) {
    ChatArgs a;
    Options o(
        "chat", "[OPTIONS]",
        "Answers a prompt; without -p, talks in the terminal. The answer goes to stdout, thinking and logs to stderr.");
    add_model_options(o, a.model);
    o.text("-p, --prompt", "TEXT", &a.prompt, "what to ask")
        .text("-f, --file", "FILE", &a.file, "ask what is in this file")
        .choice("--mode", kModeNames, &a.mode, "how much to think (non-think)")
        .text("-sys, --system", "TEXT", &a.system, "system text");
    add_sampling_options(o, a.sampling);
    o.integer("--draft", 0, kMaxDrafts, &a.n_drafts,
              "tokens that the model's MTP module guesses ahead in each step: the same answer, faster (0)");
    o.flag("--json", &a.is_json,
           "print one object: prompt_ids, output_ids, reasoning, answer, stop, timings; needs -p or -f");
    if (!o.parse(args)) return 0;
    const bool has_prompt = o.was_given("--prompt"), has_file = o.was_given("--file");
    if (has_prompt && has_file) throw UsageError("-p and -f exclude each other");
    if (a.is_json && !has_prompt && !has_file) throw UsageError("--json needs -p or -f");
    if (has_file) a.prompt = read_file(a.file, 64 << 20);

    Interrupt interrupt;
    const auto engine = load_engine(a.model, ranks);
    Dialogue dialogue(*engine, nullptr);
    dialogue.tree().system = a.system;
    dialogue.draft(static_cast<int>(a.n_drafts));
    const Sampling sampling = a.sampling.get(engine->info().sampling);
    if (!has_prompt && !has_file) return talk(dialogue, a, sampling, interrupt), 0;
    const int64_t answer = ask(dialogue, 0, a.prompt, mode_from_name(a.mode), sampling, a.is_json, interrupt);
    if (a.is_json) std::printf("%s\n", result_json(dialogue.tree(), answer, *engine).c_str());
    return dialogue.tree().at(answer).turn.stats.stop_reason == "stopped" ? 1 : 0;
}

}  // namespace

int run_chat(const Args& args) {
    return with_started_ranks([&](Communicator& ranks) { return lead(args, ranks); });
}

}  // namespace vitrine::cli
