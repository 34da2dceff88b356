// The table of measures, and how results are written down.
#include "experiments/inner/inner.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/base/error.h"
#include "engine/engine.h"

namespace vitrine::inner {
namespace {

std::vector<const Measure*> chosen(const Options& options) {
    std::vector<const Measure*> some;
    std::vector<std::string> names;
    std::string list;
    for (const Measure& m : measures()) {
        names.emplace_back(m.name), list += (list.empty() ? "" : ", ") + names.back();
        if (options.measures.empty()) some.push_back(&m);
    }
    for (const std::string& wanted : options.measures) {
        const auto at = std::find(names.begin(), names.end(), wanted);
        const std::string near = nearest_name(wanted, names);
        if (at == names.end())
            throw_if_any({{"", "tasks", wanted,
                           "expected some of " + list + (near.empty() ? "" : "; did you mean " + near + "?"), ""}});
        some.push_back(&measures()[static_cast<size_t>(at - names.begin())]);
    }
    return some;
}

std::string shown(double x, int digits) {
    if (std::isnan(x)) return "";
    char s[40];
    std::snprintf(s, sizeof s, "%.*f", digits, x);
    return s;
}

// Counts need no decimals.
int digits_of(const Table& t, size_t column) {
    double most = 0;
    for (const Table::Row& r : t.rows) {
        const double x = r.values[column];
        if (!std::isnan(x) && x != std::floor(x)) return t.digits;
        if (!std::isnan(x)) most = std::max(most, std::abs(x));
    }
    return most > 1 ? 0 : t.digits;
}

std::string to_text(const Table& t) {
    std::vector<size_t> widths{t.title.size()};
    for (const std::string& c : t.columns) widths.push_back(c.size());
    std::vector<int> digits;
    for (size_t i = 0; i < t.columns.size(); ++i) digits.push_back(digits_of(t, i));
    for (const Table::Row& r : t.rows) {
        widths[0] = std::max(widths[0], r.name.size());
        for (size_t i = 0; i < r.values.size(); ++i)
            widths[i + 1] = std::max(widths[i + 1], shown(r.values[i], digits[i]).size());
    }
    std::string s = t.title + std::string(widths[0] - t.title.size(), ' ');
    for (size_t i = 0; i < t.columns.size(); ++i)
        s += "  " + std::string(widths[i + 1] - t.columns[i].size(), ' ') + t.columns[i];
    for (const Table::Row& r : t.rows) {
        s += "\n" + r.name + std::string(widths[0] - r.name.size(), ' ');
        for (size_t i = 0; i < r.values.size(); ++i) {
            const std::string x = shown(r.values[i], digits[i]);
            s += "  " + std::string(widths[i + 1] - x.size(), ' ') + x;
        }
    }
    return s + "\n";
}

}  // namespace

const std::vector<Measure>& measures() {
    static const std::vector<Measure> all = {
        {"routing", "what experts know of the domain, their loads, what their removal costs", measure_routing},
        {"indexer", "whether CSA picks the entries that attention would read", measure_indexer},
        {"removal", "what is lost without the entries of HCA, and of CSA", measure_removal},
        {"drafting", "how often the MTP module guesses right, and what it saves", measure_drafting},
    };
    return all;
}

std::vector<Result> run_measures(Engine& engine, const Options& options, const Progress& progress,
                                 std::stop_token stop) {
    const std::vector<const Measure*> some = chosen(options);
    if (!engine.tokenizer()) throw Error(ErrorKind::bad_input, "the model has no tokenizer.json: it can't be asked");
    if (engine.device() != kCpu)
        throw Error(ErrorKind::bad_input, "the inner measures intervene in the model, which works on the CPU only");
    std::vector<Result> results;
    for (const Measure* m : some) {
        results.push_back(m->run(engine, options, progress, stop));
        results.back().name = m->name;
    }
    return results;
}

std::string to_text(const std::vector<Result>& results) {
    std::string s;
    for (const Result& r : results) {
        s += (s.empty() ? "" : "\n") + r.name + ": " + r.about + "\n";
        for (const Table& t : r.tables) s += "\n" + to_text(t);
        if (!r.bars.empty()) s += "\n";
        for (const Bar& b : r.bars) s += (b.is_met ? "met      " : "NOT met  ") + b.what + ": " + b.measured + "\n";
    }
    return s;
}

Json to_json(const std::vector<Result>& results, const Options& options) {
    Json j = Json::object(), list = Json::array();
    j.set("suite", "inner"), j.set("n", options.n), j.set("seed", options.seed);
    for (const Result& r : results) {
        Json one = Json::object(), tables = Json::array(), bars = Json::array();
        one.set("measure", r.name), one.set("about", r.about);
        for (const Table& t : r.tables) {
            Json table = Json::object(), rows = Json::array();
            table.set("title", t.title);
            for (const Table::Row& row : t.rows) {
                Json cells = Json::object();
                cells.set("row", row.name);
                for (size_t i = 0; i < row.values.size();
                     ++i)  // JSON has no infinity: null; what isn't told is left out
                    if (!std::isnan(row.values[i]))
                        cells.set(t.columns[i], std::isinf(row.values[i]) ? Json() : Json(row.values[i]));
                rows.push(std::move(cells));
            }
            table.set("rows", std::move(rows));
            tables.push(std::move(table));
        }
        for (const Bar& b : r.bars) {
            Json bar = Json::object();
            bar.set("bar", b.what), bar.set("measured", b.measured), bar.set("met", b.is_met);
            bars.push(std::move(bar));
        }
        one.set("tables", std::move(tables)), one.set("bars", std::move(bars));
        list.push(std::move(one));
    }
    j.set("measures", std::move(list));
    return j;
}

}  // namespace vitrine::inner
