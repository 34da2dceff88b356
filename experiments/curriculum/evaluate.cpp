// Asking a model held-out items and checking what it says.
#include <algorithm>
#include <set>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "engine/text/tokenizer.h"
#include "experiments/curriculum/asker.h"
#include "experiments/curriculum/causality.h"
#include "experiments/curriculum/glossary.h"
#include "experiments/curriculum/own_config.h"
#include "experiments/curriculum/suite.h"
#include "experiments/curriculum/talk.h"

namespace vitrine::curriculum {
namespace {

Cell cell_of(const Asker& asker, const std::vector<Item>& items, Mode mode, int n_samples,
             const std::function<bool(const Item&, const std::string&)>& is_right,
             const std::function<void(size_t)>& progress) {
    std::vector<GreedyRequest> requests;
    Cell c;
    c.mode = mode, c.n = static_cast<int>(items.size());
    for (const Item& item : items) {
        requests.push_back({asker.prompt(item.prompt, mode), answer_budget(mode)});
        c.mean_prompt += static_cast<double>(requests.back().prompt.size()) / static_cast<double>(items.size());
    }
    const auto answers = asker.ask(requests, progress);
    for (size_t i = 0; i < items.size(); ++i) {
        const Said said = asker.read(answers[i], mode);
        const bool right = said.is_finished && is_right(items[i], said.reply);
        c.n_right += right, c.n_unfinished += !said.is_finished;
        c.mean_spent += static_cast<double>(answers[i].size()) / static_cast<double>(items.size());
        if (static_cast<int>(i) < n_samples)
            c.samples.push_back({items[i].prompt, said.thinking, said.reply, items[i].reply, right});
    }
    return c;
}

std::vector<Item> items_of(const SuiteRow& row, const EvalOptions& options, const ModelConfig& model) {
    Selection what{.domain = domain_index(row.domain),
                   .skill = &find_skill(row.skill),
                   .level = row.level,
                   .language = row.language,
                   .model = &model};
    std::vector<Item> items;
    for (int i = 0; i < options.n; ++i)
        items.push_back(
            make_item(mix64(options.seed ^ fnv1a64(row.name)), Split::test, what, static_cast<uint64_t>(i)));
    return items;
}

// Everything that the chat of the curriculum may say.
std::set<std::string, std::less<>> chat_sentences(const ModelConfig& model) {
    std::set<std::string, std::less<>> all;
    for (const Term& t : glossary())
        for (std::string_view s : {t.is, t.chinese_is, t.purpose, t.chinese_purpose}) all.emplace(s);
    for (const Contrast& c : contrasts()) all.emplace(c.answer), all.emplace(c.chinese_answer);
    for (const ConfigFact& f : config_facts(model)) all.insert(f.reply), all.insert(f.chinese_reply);
    for (const Intent& i : intents())
        for (const auto* list : {&i.replies.english, &i.replies.chinese}) all.insert(list->begin(), list->end());
    for (const auto* list : {&refusals().english, &refusals().chinese}) all.insert(list->begin(), list->end());
    all.erase("");
    return all;
}

// Sums in Think High: the model's own working is cut after a digit that was changed, and the model goes on from there.
// A faithful one answers otherwise than before.
Cell faithfulness(const Asker& asker, const std::vector<Item>& items, uint64_t seed, int n_samples) {
    const Causality k = corrupt_digits(asker, items, seed, n_samples);
    Cell c;
    c.mode = Mode::high, c.n = k.n, c.n_right = k.n_changed;
    c.n_unfinished = k.n_unfinished, c.mean_spent = k.mean_spent;
    for (const Causality::Example& e : k.examples)
        c.samples.push_back({e.question, e.changed + e.went_on, e.answer, "not " + e.before, e.answer != e.before});
    return c;
}

void check_names(const std::vector<std::string>& wanted) {
    const std::vector<std::string> names = suite_names();
    for (const std::string& name : wanted) {
        if (std::find(names.begin(), names.end(), name) != names.end()) continue;
        std::string list;
        for (const std::string& n : names) list += (list.empty() ? "" : ", ") + n;
        const std::string near = nearest_name(name, names);
        throw_if_any({{"", "tasks", name,
                       "expected some of " + list + (near.empty() ? "" : "; did you mean " + near + "?"), ""}});
    }
}

}  // namespace

EvalResult evaluate(Engine& engine, const EvalOptions& options, const std::function<void(const std::string&)>& progress,
                    std::stop_token stop) {
    const Asker asker(engine, {options.n_together, options.is_batch_invariant}, stop);
    const auto tell = [&](const std::string& what, Mode mode) {
        return [&progress, what, mode, n = options.n](size_t done) {
            if (progress)
                progress(what + ", " + mode_title(mode) + ": " + std::to_string(done) + " of " + std::to_string(n));
        };
    };
    const auto accepts = [](const Item& item, const std::string& reply) { return item.accepts(reply); };
    check_names(options.rows);
    const auto is_wanted = [&](const char* name) {
        return options.rows.empty() || std::find(options.rows.begin(), options.rows.end(), name) != options.rows.end();
    };
    EvalResult r;
    for (const SuiteRow& row : nano_suite()) {
        if (!is_wanted(row.name)) continue;
        const std::vector<Item> items = items_of(row, options, engine.config());
        RowResult result{&row, {}};
        for (Mode m : options.modes)
            result.cells.push_back(cell_of(asker, items, m, options.n_samples, accepts, tell(row.name, m)));
        r.rows.push_back(std::move(result));
    }
    if (is_wanted(kChatForm)) {
        const SuiteRow any{"chat", "chat", "talk", -1, RowKind::macro};
        std::vector<Item> items;
        for (int i = 0; i < options.n; ++i)
            items.push_back(make_item(mix64(options.seed), Split::test,
                                      {.domain = domain_index(any.domain), .model = &engine.config()},
                                      static_cast<uint64_t>(i)));
        const auto sentences = chat_sentences(engine.config());
        const auto is_sentence = [&](const Item&, const std::string& reply) { return sentences.contains(reply); };
        for (Mode m : options.modes)
            r.chat_validity.push_back(cell_of(asker, items, m, options.n_samples, is_sentence, tell("chat", m)));
    }
    if (is_wanted(kFollowsEdit) &&
        std::find(options.modes.begin(), options.modes.end(), Mode::high) != options.modes.end()) {
        const SuiteRow sums{"faithfulness", "arithmetic", "add", 5, RowKind::macro};
        r.faithfulness = faithfulness(asker, items_of(sums, options, engine.config()), options.seed, options.n_samples);
    }
    return r;
}

}  // namespace vitrine::curriculum
