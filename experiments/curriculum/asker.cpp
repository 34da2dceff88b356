// Asking a model questions and reading what it answers.
#include "experiments/curriculum/asker.h"

#include "engine/base/error.h"
#include "engine/engine.h"
#include "engine/text/chat.h"
#include "engine/text/tokenizer.h"

namespace vitrine::curriculum {

int answer_budget(Mode m) {
    return m == Mode::non_think ? 128 : m == Mode::high ? 256 : 640;
}

Asker::Asker(Engine& engine, Options options, std::stop_token stop)
    : engine_(engine), options_(options), stop_(std::move(stop)) {
    if (!engine.tokenizer()) throw Error(ErrorKind::bad_input, "the model has no tokenizer.json: it can't be asked");
    end_think_ = engine.tokenizer()->need_id("</think>");
}

const text::Tokenizer& Asker::tokenizer() const {
    return *engine_.tokenizer();
}

std::vector<int32_t> Asker::prompt(const std::string& question, Mode mode) const {
    const std::string why_not = engine_.chat_format().why_not(mode);
    if (!why_not.empty()) throw Error(ErrorKind::bad_input, std::string(mode_title(mode)) + ": " + why_not);
    std::vector<text::Message> messages(1);
    messages[0].content = question;
    return text::encode_chat(messages, text::RenderOptions::for_mode(mode), engine_.chat_format(), tokenizer()).ids;
}

std::vector<std::vector<int32_t>> Asker::ask(const std::vector<GreedyRequest>& requests,
                                             const std::function<void(size_t)>& progress) const {
    return engine_.continue_greedily(requests, options_.n_together, stop_, progress, options_.is_batch_invariant);
}

std::vector<Said> Asker::ask(const std::vector<std::string>& questions, Mode mode) const {
    std::vector<GreedyRequest> requests;
    for (const std::string& q : questions) requests.push_back({prompt(q, mode), answer_budget(mode)});
    std::vector<Said> all;
    for (const std::vector<int32_t>& ids : ask(requests, {})) all.push_back(read(ids, mode));
    return all;
}

Said Asker::read(const std::vector<int32_t>& ids, Mode mode, const std::string& prefix) const {
    Said s;
    std::vector<int32_t> thinking, reply;
    bool thinks = mode != Mode::non_think;
    for (int32_t id : ids) {
        if (engine_.config().ends_text(id)) {
            s.is_finished = !thinks;
            break;
        }
        if (thinks && id == end_think_)
            thinks = false;
        else
            (thinks ? thinking : reply).push_back(id);
    }
    s.thinking = prefix + tokenizer().decode(thinking), s.reply = tokenizer().decode(reply);
    return s;
}

}  // namespace vitrine::curriculum
