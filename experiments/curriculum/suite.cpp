// The frozen rows, and how results are written down.
#include "experiments/curriculum/suite.h"

#include <cmath>
#include <cstdio>

namespace vitrine::curriculum {

const std::vector<SuiteRow>& nano_suite() {
    using enum RowKind;
    static const std::vector<SuiteRow> all = {
        {"add 3 digits", "arithmetic", "add", 3, macro},
        {"add 8 digits", "arithmetic", "add", 8, macro},
        {"multiply 2x2", "arithmetic", "multiply", 4, macro},
        {"multiply 3x3", "arithmetic", "multiply", 7, macro},
        {"multiply 4x4", "arithmetic", "multiply", 10, macro},
        {"chain of 4", "serial", "chain", 4, macro},
        {"chain of 12", "serial", "chain", 12, macro},
        {"cups, 4 swaps", "serial", "cups", 4, macro},
        {"cups, 12 swaps", "serial", "cups", 12, macro},
        {"hops 1", "lookup", "hops", 1, macro},
        {"hops 2", "lookup", "hops", 2, macro},
        {"hops 4", "lookup", "hops", 4, macro},
        {"family 2", "lookup", "family", 2, macro},
        {"family 3", "lookup", "family", 3, macro},
        {"sort 8", "strings", "sort", 8, macro},
        {"sort 14", "strings", "sort", 14, macro},
        {"count 20 letters", "strings", "count", 20, macro},
        {"reverse 12", "strings", "reverse", 12, control},
        {"countdown 3", "search", "countdown", 3, macro},
        {"countdown 4", "search", "countdown", 4, macro},
        {"latin, 6 blanks", "search", "latin", 6, macro},
        {"latin, 10 blanks", "search", "latin", 10, macro},
        {"recall 1K", "lookup", "recall", 1000, control},
        {"recall 2K", "lookup", "recall", 2000, control},
        {"recall 8K", "lookup", "recall", 8000, control},
        {"frequency 1K", "lookup", "frequency", 1000, macro},
        {"most frequent 1K", "lookup", "most_frequent", 1000, macro},
        {"people", "facts", "person", 1, macro},
        {"own config, English", "chat", "config", 1, macro, Language::english},
        {"own config, Chinese", "chat", "config", 1, macro, Language::chinese},
        {"glossary", "chat", "glossary", 1, macro},
        {"refusal", "chat", "refusal", 1, macro},
        {"add 12 digits", "arithmetic", "add", 12, beyond},
        {"chain of 20", "serial", "chain", 20, beyond},
    };
    return all;
}

std::vector<std::string> suite_names() {
    std::vector<std::string> names;
    for (const SuiteRow& row : nano_suite()) names.emplace_back(row.name);
    names.insert(names.end(), {kChatForm, kFollowsEdit});
    return names;
}

Interval wilson(int n_right, int n) {
    if (n == 0) return {};
    constexpr double z = 1.959963984540054;
    const double p = static_cast<double>(n_right) / n, k = z * z / n;
    const double middle = (p + k / 2) / (1 + k), half = z * std::sqrt(p * (1 - p) / n + k / (4 * n)) / (1 + k);
    return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

namespace {

struct Macro {
    double accuracy = 0, spent = 0;
    int n_rows = 0;
};
Macro macro_of(const EvalResult& r, size_t mode) {
    Macro m;
    for (const RowResult& row : r.rows) {
        if (row.row->kind == RowKind::beyond) continue;
        m.accuracy += row.cells[mode].accuracy(), m.spent += row.cells[mode].mean_spent;
        ++m.n_rows;
    }
    if (m.n_rows) m.accuracy /= m.n_rows, m.spent /= m.n_rows;
    return m;
}

const char* kind_name(RowKind k) {
    return k == RowKind::macro ? "macro" : k == RowKind::control ? "control" : "beyond";
}

Json to_json(const Cell& c) {
    Json j = Json::object();
    const Interval i = wilson(c.n_right, c.n);
    j.set("mode", mode_name(c.mode));
    j.set("n", c.n), j.set("right", c.n_right), j.set("accuracy", c.accuracy());
    j.set("lowest", i.lowest), j.set("highest", i.highest);
    j.set("mean_prompt_tokens", c.mean_prompt), j.set("mean_spent_tokens", c.mean_spent),
        j.set("unfinished", c.n_unfinished);
    if (c.samples.empty()) return j;
    Json samples = Json::array();
    for (const EvalSample& s : c.samples) {
        Json one = Json::object();
        one.set("prompt", s.prompt), one.set("thinking", s.thinking), one.set("reply", s.reply);
        one.set("expected", s.expected), one.set("right", s.is_right);
        samples.push(std::move(one));
    }
    j.set("samples", std::move(samples));
    return j;
}

// "98.4 [96.9, 99.2]   12"
std::string shown(const Cell& c) {
    char s[64];
    const Interval i = wilson(c.n_right, c.n);
    std::snprintf(s, sizeof s, "%5.1f [%5.1f,%6.1f] %5.0f", 100 * c.accuracy(), 100 * i.lowest, 100 * i.highest,
                  c.mean_spent);
    return s;
}

std::string padded(std::string s, size_t n) {
    s.resize(std::max(n, s.size()), ' ');
    return s;
}

}  // namespace

Json to_json(const EvalResult& r, const EvalOptions& options) {
    Json j = Json::object(), rows = Json::array(), macro = Json::array();
    j.set("suite", "nano"), j.set("n", options.n), j.set("seed", options.seed);
    for (const RowResult& row : r.rows) {
        Json one = Json::object(), cells = Json::array();
        one.set("row", row.row->name), one.set("kind", kind_name(row.row->kind));
        for (const Cell& c : row.cells) cells.push(to_json(c));
        one.set("cells", std::move(cells));
        rows.push(std::move(one));
    }
    j.set("rows", std::move(rows));
    for (size_t m = 0; m < options.modes.size(); ++m) {
        const Macro mean = macro_of(r, m);
        Json one = Json::object();
        one.set("mode", mode_name(options.modes[m])), one.set("rows", mean.n_rows);
        one.set("accuracy", mean.accuracy), one.set("mean_spent_tokens", mean.spent);
        macro.push(std::move(one));
    }
    j.set("macro", std::move(macro));
    Json validity = Json::array();
    for (const Cell& c : r.chat_validity) validity.push(to_json(c));
    j.set("chat_validity", std::move(validity));
    if (r.faithfulness) j.set("faithfulness", to_json(*r.faithfulness));
    return j;
}

std::string to_table(const EvalResult& r, const EvalOptions& options) {
    constexpr size_t kName = 24, kCell = 30;
    std::string s = padded("", kName);
    for (Mode m : options.modes) s += padded(std::string(mode_title(m)) + " % [95 %] tokens", kCell);
    for (const RowResult& row : r.rows) {
        s += "\n" + padded(std::string(row.row->name) + (row.row->kind == RowKind::macro     ? ""
                                                         : row.row->kind == RowKind::control ? " (control)"
                                                                                             : " (unseen)"),
                           kName);
        for (const Cell& c : row.cells) s += padded(shown(c), kCell);
    }
    const bool has_macro = macro_of(r, 0).n_rows > 0;
    if (has_macro) s += "\n" + padded("macro mean", kName);
    for (size_t m = 0; has_macro && m < options.modes.size(); ++m) {
        char text[64];
        const Macro mean = macro_of(r, m);
        std::snprintf(text, sizeof text, "%5.1f  (%d rows)      %5.0f", 100 * mean.accuracy, mean.n_rows, mean.spent);
        s += padded(text, kCell);
    }
    if (!r.chat_validity.empty()) {
        s += "\n" + padded(kChatForm, kName);
        for (const Cell& c : r.chat_validity) s += padded(shown(c), kCell);
    }
    if (r.faithfulness)
        s += "\n" + padded(kFollowsEdit, kName) + padded("", kCell * (options.modes.size() > 1 ? 1 : 0)) +
             shown(*r.faithfulness);
    const auto add_samples = [&s](const std::string& title, const Cell& c) {
        for (const EvalSample& x : c.samples)
            s += "\n---- " + title + ", " + mode_title(c.mode) + ", " +
                 (x.is_right ? "right" : "wrong: expected " + x.expected) + "\n" + x.prompt +
                 (x.thinking.empty() ? "" : "\n  thinking: " + x.thinking) + "\n  reply: " + x.reply;
    };
    for (const RowResult& row : r.rows)
        for (const Cell& c : row.cells) add_samples(row.row->name, c);
    for (const Cell& c : r.chat_validity) add_samples(kChatForm, c);
    if (r.faithfulness) add_samples(kFollowsEdit, *r.faithfulness);
    return s + "\n";
}

}  // namespace vitrine::curriculum
