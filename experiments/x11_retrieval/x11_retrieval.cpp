// X11: finding a note by the length of the text, where it stands, and how many others there are.
#include <algorithm>
#include <cmath>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "engine/infer/generate.h"
#include "engine/text/tokenizer.h"
#include "experiments/curriculum/asker.h"
#include "experiments/curriculum/suite.h"
#include "experiments/experiment.h"
#include "experiments/inner/intervening.h"
#include "experiments/inner/reading.h"
#include "experiments/questions.h"
#include "experiments/statistics.h"
#include "experiments/x11_retrieval/haystack.h"

namespace vitrine::lab {
namespace {

constexpr double kDepths[] = {0, 0.5, 0.95};
constexpr double kMiddle = 0.5;  // of the criteria: other depths ask the same texts again
constexpr int kFewNotes = 4;
// V4-Pro-Max on MRCR 8-needle at 8K, 16K ... 1M tokens: V4 report, Figure 9.
constexpr double kReport[] = {0.90, 0.85, 0.94, 0.90, 0.92, 0.82, 0.66, 0.59};

LabInfo describe() {
    LabInfo i;
    i.name = "X11";
    i.title = "Retrieval and length";
    i.question = "How far back does the model find a note, and is it selection or position that fails beyond that?";
    i.claim = "Retrieval declines past 128K: V4-Pro-Max finds 66 % at 512K and 59 % at 1M (V4 report, Figure 9: MRCR).";
    i.literature =
        "MRCR asks for the j-th of several alike texts; RULER (arXiv 2404.06654) varies length and number of needles. "
        "This is an analogue on a small model, not V4's curve: the lengths are in multiples of what it was trained on.";
    i.badge = LabBadge::measured;
    i.knobs = {
        model_knob(),
        text_knob("lengths", "Lengths [tokens]", "512,1024,2048,4096,8192", "about, with commas between, ascending"),
        number_knob("trained", "Trained to [tokens]", "2048", 1, 1e6, "lengths beyond are called longer", true),
        number_knob("notes", "Many notes", "16", 5, 200, "of people, against 4", true),
        number_knob("items", "Questions of each cell", "4", 1, 5000, "answered greedily without thinking", true),
        number_knob("seed", "Seed", "2026", 0, 1e9, "of the texts")};
    i.plots = {{"Right answers", "tokens", "right [%]", {}, true, false},
               {"The note is picked", "tokens", "share of CSA layers [%]", {}, true, false}};
    i.expected_time = "three minutes";
    return i;
}

std::vector<int> lengths_of(const Knobs& knobs, const ModelConfig& c) {
    std::vector<int> all;
    const std::string& text = knobs.text("lengths");
    for (size_t begin = 0; begin <= text.size();) {
        const size_t end = std::min(text.find(',', begin), text.size());
        const std::string one = text.substr(begin, end - begin);
        const bool is_number =
            !one.empty() && one.size() < 7 && one.find_first_not_of("0123456789") == std::string::npos;
        if (!is_number || std::stoi(one) < 100 || (!all.empty() && std::stoi(one) <= all.back()))
            throw_if_any({{"X11", "lengths", text, "expected numbers from 100, ascending, with commas between", ""}});
        all.push_back(std::stoi(one));
        begin = end + 1;
    }
    // A text may be longer than the mean by a fifth.
    if (all.back() * 1.2 > static_cast<double>(c.max_position))
        throw_if_any(
            {{"X11", "lengths", text,
              "expected at most the model's context of " + std::to_string(c.max_position) + " tokens, less a sixth",
              ""}});
    return all;
}

struct Answer {
    bool is_right = false;
    double picked = 0;    // share of CSA layers whose picks, for the prompt's last token, hold an entry of the note
    double n_tokens = 0;  // of the prompt
};
struct Cell {
    int length = 0, notes = 0;
    double depth = 0;
    std::string how;  // what was changed
    std::vector<Answer> answers;
    std::vector<bool> right() const {
        std::vector<bool> r;
        for (const Answer& a : answers) r.push_back(a.is_right);
        return r;
    }
};

int n_right(const std::vector<Answer>& answers) {
    return static_cast<int>(std::count_if(answers.begin(), answers.end(), [](const Answer& a) { return a.is_right; }));
}
double mean_of(const std::vector<Answer>& answers, double Answer::*what) {
    double sum = 0;
    for (const Answer& a : answers) sum += a.*what;
    return answers.empty() ? 0 : sum / static_cast<double>(answers.size());
}
std::string shown(const std::vector<Answer>& answers) {
    return with_interval(n_right(answers), static_cast<int>(answers.size()));
}

class Finder {
  public:
    Finder(Engine& engine, std::stop_token stop) : engine_(engine), asker_(engine, {}, stop), stop_(stop) {}

    Answer ask(const Haystack& h) const {
        const std::vector<int32_t> prompt = asker_.prompt(h.prompt(), Mode::non_think);
        Answer a;
        a.n_tokens = static_cast<double>(prompt.size());
        const auto session = engine_.new_session();
        session->append({prompt.data(), prompt.size() - 1}, stop_);
        a.picked = picks(*session, h, prompt);
        GenerateRequest request;
        request.prompt = prompt;
        request.sampling.temperature = 0, request.sampling.max_new_tokens = 24;
        const GenerateResult r = generate(engine_, *session, request, {}, stop_);
        if (r.stats.stop_reason == "stopped") throw Error(ErrorKind::cancelled, "cancelled");
        const curriculum::Said said = asker_.read(r.output_ids, Mode::non_think);
        a.is_right = said.is_finished && curriculum::exactly(h.reply)(said.reply);
        return a;
    }

  private:
    // Feeds the last token while its picks are watched.
    double picks(Session& session, const Haystack& h, const std::vector<int32_t>& prompt) const {
        const auto n_before = static_cast<int64_t>(asker_.prompt(h.before, Mode::non_think).size()) - 2;
        const auto n_note = static_cast<int64_t>(asker_.tokenizer().encode(h.note).size());
        int n_layers = 0, n_hits = 0;
        inner::Reader reader{probe_bit(kIndexTopk), {}, {}};
        reader.ints = [&](int, Probe p, int, const int32_t* entries, int k) {
            if (p != kIndexTopk) return;
            ++n_layers;
            // Entry s holds tokens 4s - 4 to 4s + 3: its own four and the four before.
            n_hits += std::any_of(entries, entries + k, [&](int64_t s) {
                return s >= 0 && 4 * s + 3 >= n_before && 4 * s - 4 < n_before + n_note;
            });
        };
        inner::read_on(engine_, session, {&prompt.back(), 1}, reader, stop_);
        return n_layers ? static_cast<double>(n_hits) / n_layers : 0;
    }
    Engine& engine_;
    curriculum::Asker asker_;
    std::stop_token stop_;
};

struct Change {
    std::string name;
    EntryChoice choice;
    int times;  // of the trained k; 0: every entry
};
const std::vector<Change>& changes() {
    static const std::vector<Change> all = {{"4 k", EntryChoice::as_trained, 4},
                                            {"every entry", EntryChoice::as_trained, 0},
                                            {"oracle, k", EntryChoice::attention, 1}};
    return all;
}

class Study {
  public:
    Study(Engine& engine, const Knobs& knobs, const Bench& bench)
        : engine_(engine), knobs_(knobs), bench_(bench), lengths_(lengths_of(knobs, engine.config())) {
        // The curriculum counts tokens without a tokenizer; lengths are this model's.
        const curriculum::Asker asker(engine, {}, bench.stop);
        constexpr int kTexts = 4, kEstimate = 500;
        for (uint64_t i = 0; i < kTexts; ++i) {
            const Haystack h = make_haystack(kEstimate, 0, kFewNotes, 0, i, engine.config());
            tokens_of_estimate_ += double(asker.prompt(h.prompt(), Mode::non_think).size()) / kEstimate / kTexts;
        }
    }

    LabVerdict verdict() {
        const int many = static_cast<int>(knobs_.integer("notes"));
        for (const int length : lengths_) {
            for (const double depth : kDepths) add(length, depth, kFewNotes, "");
            add(length, 0.5, many, "");
        }
        for (const int length : lengths_) {
            if (!is_long(length) && length != lengths_.back()) continue;
            for (const Change& change : changes()) {
                Interventions e =
                    inner::entries_of_all(engine_.config(), LayerKind::csa, change.choice,
                                          change.times ? change.times * engine_.config().index_topk : length);
                const inner::Intervening intervening(engine_, e);
                add(length, 0.5, kFewNotes, change.name);
            }
        }
        LabVerdict v;
        v.tables = {length_table(many), change_table()};
        v.charts = charts(many);
        judge(v, many);
        return v;
    }

  private:
    bool is_long(int length) const { return length > knobs_.integer("trained"); }
    void add(int length, double depth, int notes, const std::string& how) {
        const Finder finder(engine_, bench_.stop);
        Cell cell{length, notes, depth, how, {}};
        for (int i = 0; i < knobs_.integer("items"); ++i) {
            bench_.tell(std::to_string(length) + " tokens, note at " + percent(depth, 0) + " of " +
                        std::to_string(notes) + (how.empty() ? "" : ", " + how) + ": question " +
                        std::to_string(i + 1));
            cell.answers.push_back(finder.ask(make_haystack(static_cast<int>(length / tokens_of_estimate_), depth,
                                                            notes, static_cast<uint64_t>(knobs_.integer("seed")),
                                                            static_cast<uint64_t>(i), engine_.config())));
        }
        cells_.push_back(std::move(cell));
    }
    // Answers of all cells that fit; depth below 0: any.
    std::vector<Answer> of(int length, int notes, double depth = -1, const std::string& how = "") const {
        std::vector<Answer> all;
        for (const Cell& c : cells_)
            if (c.length == length && c.notes == notes && c.how == how && (depth < 0 || c.depth == depth))
                all.insert(all.end(), c.answers.begin(), c.answers.end());
        return all;
    }

    LabTable length_table(int many) const {
        LabTable t{
            "Right answers [%, Wilson's 95 %], without thinking; any depth: the same texts at each, so no interval",
            {"length", "tokens, mean"},
            {}};
        for (const double d : kDepths) t.columns.push_back("4 notes, asked at " + percent(d, 0));
        t.columns.insert(t.columns.end(),
                         {"4 notes, any depth", std::to_string(many) + " notes, 50 %", "n", "note picked"});
        for (const int length : lengths_) {
            const std::vector<Answer> all = of(length, kFewNotes);
            t.rows.push_back({std::to_string(length) + (is_long(length) ? " (longer)" : ""),
                              fixed(mean_of(all, &Answer::n_tokens), 0)});
            for (const double d : kDepths) t.rows.back().push_back(shown(of(length, kFewNotes, d)));
            t.rows.back().insert(
                t.rows.back().end(),
                {fixed(100.0 * n_right(all) / static_cast<double>(std::max<size_t>(all.size(), 1)), 1),
                 shown(of(length, many)), std::to_string(all.size()), percent(mean_of(all, &Answer::picked), 0)});
        }
        return t;
    }
    Pairs change_pairs(int length, const std::string& how) const {
        Pairs p;
        const std::vector<Answer> a = of(length, kFewNotes, 0.5), b = of(length, kFewNotes, 0.5, how);
        for (size_t i = 0; i < b.size(); ++i) p.add(a[i].is_right, b[i].is_right);
        return p;
    }
    LabTable change_table() const {
        LabTable t{"What brings answers back: note in the middle, 4 notes, the same texts [%; p: exact McNemar]",
                   {"length", "as trained, k = " + std::to_string(engine_.config().index_topk)},
                   {}};
        for (const Change& c : changes()) t.columns.push_back(c.name);
        for (const int length : lengths_) {
            if (of(length, kFewNotes, 0.5, changes()[0].name).empty()) continue;
            t.rows.push_back({std::to_string(length), shown(of(length, kFewNotes, 0.5))});
            for (const Change& c : changes())
                t.rows.back().push_back(shown(of(length, kFewNotes, 0.5, c.name)) + " (p " +
                                        significant(change_pairs(length, c.name).p_value(), 2) + ")");
        }
        return t;
    }

    std::vector<LabChart> charts(int many) const {
        LabChart right{"Right answers", "tokens", "right [%]", true, false, {}};
        LabChart picked{"The note is picked", "tokens", "share of CSA layers [%]", true, false, {}};
        const auto curve = [&](LabChart& chart, const std::string& label, auto&& value) {
            chart.curves.push_back({label, {}, {}});
            for (const int n : lengths_) chart.curves.back().x.push_back(n), chart.curves.back().y.push_back(value(n));
        };
        const auto share = [](const std::vector<Answer>& a) {
            return 100.0 * n_right(a) / static_cast<double>(std::max<size_t>(a.size(), 1));
        };
        for (const double d : kDepths)
            curve(right, "4 notes, asked at " + percent(d, 0), [&](int n) { return share(of(n, kFewNotes, d)); });
        curve(right, std::to_string(many) + " notes", [&](int n) { return share(of(n, many)); });
        right.curves.push_back({"V4-Pro-Max, MRCR (report)", {}, {}});
        for (size_t i = 0; i < std::size(kReport); ++i) {
            right.curves.back().x.push_back(8192.0 * std::pow(2.0, double(i)));
            right.curves.back().y.push_back(100 * kReport[i]);
        }
        curve(picked, "4 notes", [&](int n) { return 100 * mean_of(of(n, kFewNotes), &Answer::picked); });
        curve(picked, std::to_string(many) + " notes",
              [&](int n) { return 100 * mean_of(of(n, many), &Answer::picked); });
        return {right, picked};
    }

    // Difference of two shares of different texts, 95 % (Newcombe 1998, method 10 for unpaired ones).
    static Estimate difference(const std::vector<Answer>& a, const std::vector<Answer>& b) {
        const auto na = static_cast<int>(a.size()), nb = static_cast<int>(b.size());
        const double pa = double(n_right(a)) / std::max(na, 1), pb = double(n_right(b)) / std::max(nb, 1);
        const curriculum::Interval ia = curriculum::wilson(n_right(a), na), ib = curriculum::wilson(n_right(b), nb);
        return {pb - pa, pb - pa - std::hypot(pb - ib.lowest, ia.highest - pa),
                pb - pa + std::hypot(ib.highest - pb, pa - ia.lowest)};
    }
    static std::string points(const Estimate& e) {
        return (e.value > 0 ? "+" : "") + fixed(100 * e.value, 1) + " [" + fixed(100 * e.lowest, 1) + ", " +
               fixed(100 * e.highest, 1) + "] points";
    }

    void judge(LabVerdict& v, int many) const {
        int in_range = lengths_.front();
        for (const int n : lengths_)
            if (!is_long(n)) in_range = n;
        const int longest = lengths_.back();
        const Estimate flat = difference(of(lengths_.front(), kFewNotes, kMiddle), of(in_range, kFewNotes, kMiddle)),
                       beyond = difference(of(in_range, kFewNotes, kMiddle), of(longest, kFewNotes, kMiddle)),
                       steeper = difference(of(longest, kFewNotes, kMiddle), of(longest, many));
        std::string best = "nothing";
        double p = 1;
        for (const Change& c : changes())
            if (const Pairs x = change_pairs(longest, c.name); x.difference() > 0 && x.p_value() < p)
                p = x.p_value(), best = c.name;
        const size_t n_each = of(longest, kFewNotes, 0.5).size();
        const bool has_shorter = in_range > lengths_.front(), is_flat = has_shorter && !flat.is_below(0);
        const bool declines = is_long(longest) && beyond.is_below(0);
        LabTable t{"Criteria, note in the middle", {"criterion", "measured", ""}, {}};
        const auto row = [&](const std::string& what, const std::string& measured, const char* word) {
            t.rows.push_back({what, measured, word});
        };
        row("flat up to the trained length: no change from " + std::to_string(lengths_.front()) + " to " +
                std::to_string(in_range),
            has_shorter ? points(flat) : "",
            is_flat       ? "pass"
            : has_shorter ? "fail"
                          : "not asked for");
        row("declines beyond: " + std::to_string(longest) + " against " + std::to_string(in_range), points(beyond),
            declines ? "pass" : "fail");
        row("more notes make it worse at " + std::to_string(longest), points(steeper),
            steeper.is_below(0) ? "pass" : "fail");
        row("more entries or the oracle bring answers back at " + std::to_string(longest),
            best + " (p " + significant(p, 2) + ")",
            !declines  ? "nothing to bring back"
            : p < 0.05 ? "pass: selection"
                       : "fail: not shown");
        row("at least 200 questions a cell", std::to_string(n_each),
            n_each >= 200 ? "pass" : "fail: a look, not a measurement");
        v.tables.insert(v.tables.begin(), t);
        const int n_pass = is_flat + declines + steeper.is_below(0);
        using Outcome = LabVerdict::Outcome;
        v.outcome = n_each < 200  ? (n_pass ? Outcome::mixed : Outcome::not_visible)
                    : n_pass == 3 ? Outcome::holds
                    : n_pass == 0 ? Outcome::does_not_hold
                    : n_pass == 1 ? Outcome::not_visible
                                  : Outcome::mixed;
        v.sentence =
            "From " + std::to_string(in_range) + " tokens" +
            (in_range == knobs_.integer("trained") ? ", as long as it was trained," : "") + " to " +
            std::to_string(longest) + " the right answers, with the note in the middle, change by " + points(beyond) +
            ". An analogue of the report's curve on a small model, not that curve" +
            (n_each < 200 ? ", and with " + std::to_string(n_each) + " questions a cell only a first look." : ".");
    }

    Engine& engine_;
    const Knobs& knobs_;
    const Bench& bench_;
    std::vector<int> lengths_;
    double tokens_of_estimate_ = 0;
    std::vector<Cell> cells_;
};

LabVerdict measure(const Knobs& knobs, const Bench& bench) {
    const auto engine = Engine::load(model_folder(knobs, bench), {}, bench.stop);
    return Study(*engine, knobs, bench).verdict();
}

}  // namespace

Experiment x11_retrieval() {
    return {.info = describe(), .folder = "x11_retrieval", .measure = measure};
}

}  // namespace vitrine::lab
