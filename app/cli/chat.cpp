// vitrine chat: answers one prompt, or talks in the terminal.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <span>

#include "app/cli/common.h"
#include "app/cli/ranks.h"
#include "app/dialogue.h"
#include "app/prompt.h"
#include "engine/base/json.h"
#include "engine/base/log.h"
#include "engine/base/reader.h"
#include "engine/text/chat_json.h"
#include "engine/text/chat_output.h"

namespace vitrine::cli {
namespace {

struct ChatArgs {
    ModelArgs model;
    SamplingArgs sampling;
    std::string prompt, file, messages, system, mode = "non-think";
    int64_t n_drafts = 0;
    bool is_json = false;
};

// The answer goes to stdout, so that it can be used by a script; thinking, being about the answer, goes to stderr.
struct Printer {
    bool is_dim = isatty(STDERR_FILENO) != 0;
    bool is_thinking = false;
    std::string printed;
    void print(const std::string& reasoning, const std::string& content) {
        printed += content;
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
    void end(const std::string& content, const TurnStats& s) {
        end_thinking();
        // What was held back in case it was the start of a stop string or a tag.
        if (content.starts_with(printed)) std::fputs(content.c_str() + printed.size(), stdout);
        std::fputs("\n", stdout);
        std::fflush(stdout);
        std::string drafts;
        if (s.n_drafted > 0)
            drafts = "; " + std::to_string(s.n_accepted) + " of " + std::to_string(s.n_drafted) + " drafts right";
        std::fprintf(stderr, "[%s; %d prompt tokens (%d reused), %d thinking, %d answer; %.0f tokens/s%s]\n",
                     s.stop_reason.c_str(), s.n_prompt, s.n_reused, s.n_thinking, s.n_answer, s.tokens_per_s, drafts.c_str());
    }
};

struct Outcome {
    std::vector<int32_t> prompt_ids, output_ids;
    std::string reasoning, content;
    TurnStats stats;
};

Json ids_to_json(std::span<const int32_t> ids) {
    Json a = Json::array();
    for (const int32_t id : ids) a.push(int64_t{id});
    return a;
}

// Everything from the first tool-call marker on is taken apart (v4-spec 8.4).
std::string result_json(const Outcome& o, Mode mode, const Sampling& sampling, const Engine& engine) {
    const text::ParsedOutput said = text::parse_output(o.content, false);
    const TurnStats& s = o.stats;
    Json j = Json::object();
    j.set("model", engine.info().name);
    j.set("numerics", numerics_name(engine.numerics()));
    j.set("mode", mode_name(mode));
    j.set("seed", sampling.seed);
    j.set("prompt_ids", ids_to_json(o.prompt_ids));
    j.set("output_ids", ids_to_json(o.output_ids));
    j.set("reasoning", o.reasoning);
    j.set("answer", said.content);
    if (!said.tool_calls.empty()) j.set("tool_calls", text::tool_calls_to_json(said.tool_calls));
    for (const std::string& problem : said.problems) log_warning("the model's tool calls: " + problem);
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

struct Running {
    Interrupt& i;
    std::stop_token token = i.begin();
    ~Running() { i.end(); }
};

int64_t ask(Dialogue& d, int64_t parent, const std::string& text, Mode mode, const Sampling& sampling, bool is_quiet,
            Interrupt& interrupt) {
    Turn turn;
    turn.parent = parent;
    turn.role = "user";
    turn.content = text;
    const int64_t asked = d.tree().add(std::move(turn));
    Printer printer;
    AnswerObserver observer;
    if (!is_quiet)
        observer.token = [&](const TokenInfo&, const std::string& reasoning, const std::string& content) {
            printer.print(reasoning, content);
        };
    const Running running{interrupt};
    const int64_t answer = d.answer(asked, mode, sampling, observer, running.token);
    const Turn& done = d.tree().at(answer).turn;
    if (!is_quiet) printer.end(done.content, done.stats);
    return answer;
}

Outcome outcome_of(const ConversationTree& tree, int64_t answer) {
    const Turn& turn = tree.at(answer).turn;
    const Timeline t = tree.timeline(answer);
    Outcome o{{}, {}, turn.reasoning, turn.content, turn.stats};
    for (size_t i = 0; i < t.tokens.size(); ++i)
        (static_cast<int64_t>(i) < t.n_prompt ? o.prompt_ids : o.output_ids).push_back(t.tokens[i].id);
    return o;
}

// A conversation with any roles, tools and reasoning, rendered as the format says and continued.
Outcome answer_messages(Engine& engine, const ChatArgs& a, Mode mode, const Sampling& sampling, Interrupt& interrupt) {
    const text::Tokenizer& tokenizer = need_tokenizer(engine);
    const std::string json = read_file(a.messages, 64 << 20);
    const std::vector<text::Message> messages =
        text::messages_from_json(Json::parse(json, a.messages, {.max_bytes = 64 << 20}), a.messages);
    if (const std::string why_not = engine.chat_format().why_not(mode); !why_not.empty())
        throw Error(ErrorKind::bad_input, std::string(mode_title(mode)) + ": " + why_not);
    const text::Prompt prompt =
        text::encode_chat(messages, text::RenderOptions::for_mode(mode), engine.chat_format(), tokenizer);
    const auto session = engine.new_session(a.n_drafts > 0);
    const GenerateRequest request{prompt.ids, sampling, prompt.ends_thinking ? mode : Mode::non_think, 0,
                                  static_cast<int>(a.n_drafts)};
    Printer printer;
    GenerateCallbacks callbacks;
    if (!a.is_json)
        callbacks.token = [&](const TokenInfo&, const std::string& reasoning, const std::string& content) {
            printer.print(reasoning, content);
        };
    const Running running{interrupt};
    GenerateResult r = generate(engine, *session, request, callbacks, running.token);
    if (!a.is_json) printer.end(r.content, r.stats);
    return {prompt.ids, std::move(r.output_ids), std::move(r.reasoning), std::move(r.content), std::move(r.stats)};
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
        .text("--messages", "FILE.json", &a.messages,
              "answer a list of messages in OpenAI's form: all roles, tools, reasoning_content")
        .choice("--mode", kModeNames, &a.mode, "how much to think (non-think)")
        .text("-sys, --system", "TEXT", &a.system, "system text");
    add_sampling_options(o, a.sampling);
    o.integer("--draft", 0, kMaxDrafts, &a.n_drafts,
              "tokens that the model's MTP module guesses ahead in each step: the same answer, faster (0)");
    o.flag("--json", &a.is_json,
           "print one object: prompt_ids, output_ids, reasoning, answer, tool_calls, stop, timings; needs -p, -f or --messages");
    if (!o.parse(args)) return 0;
    const bool has_prompt = o.was_given("--prompt"), has_file = o.was_given("--file");
    const bool has_messages = o.was_given("--messages");
    if (has_prompt + has_file + has_messages > 1) throw UsageError("-p, -f and --messages exclude each other");
    if (has_messages && o.was_given("--system")) throw UsageError("--system does not go with --messages: make it the first one");
    if (a.is_json && !has_prompt && !has_file && !has_messages) throw UsageError("--json needs -p, -f or --messages");
    if (has_file) a.prompt = read_file(a.file, 64 << 20);

    Interrupt interrupt;
    const auto engine = load_engine(a.model, ranks);
    Dialogue dialogue(*engine, nullptr);
    dialogue.tree().system = a.system;
    dialogue.draft(static_cast<int>(a.n_drafts));
    const Sampling sampling = a.sampling.get(engine->info().sampling);
    if (!has_prompt && !has_file && !has_messages) return talk(dialogue, a, sampling, interrupt), 0;
    const Mode mode = mode_from_name(a.mode);
    Outcome done;
    if (has_messages)
        done = answer_messages(*engine, a, mode, sampling, interrupt);
    else
        done = outcome_of(dialogue.tree(), ask(dialogue, 0, a.prompt, mode, sampling, a.is_json, interrupt));
    if (a.is_json) std::printf("%s\n", result_json(done, mode, sampling, *engine).c_str());
    return done.stats.stop_reason == "stopped" ? 1 : 0;
}

}  // namespace

int run_chat(const Args& args) {
    return with_started_ranks([&](Communicator& ranks) { return lead(args, ranks); });
}

}  // namespace vitrine::cli
