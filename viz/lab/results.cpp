// Right, the other tabs: what was measured beside what is claimed, the difference of two configs, the experiment's
// README.
#include <algorithm>

#include "engine/base/error.h"
#include "viz/imgui_compat.h"
#include "viz/lab/curves.h"
#include "viz/lab/state.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/markdown.h"
#include "viz/widgets/table.h"

namespace vitrine::viz::lab {
namespace {

void heading(const char* words) {
    ui::FontScope small(Font::small);
    ui::Color dim(theme().text_dim);
    ui::plain(words);
}

void draw_table(const LabTable& t, size_t number) {
    if (!t.title.empty()) ui::text_wrapped(t.title);
    std::vector<ui::Column> columns;
    for (size_t i = 0; i < t.columns.size(); ++i) {
        columns.push_back({t.columns[i].c_str()});
        float& weight = columns.back().weight;  // of the widest text
        weight = ImGui::CalcTextSize(t.columns[i].c_str()).x;
        for (const auto& row : t.rows)
            if (i < row.size()) weight = std::max(weight, ImGui::CalcTextSize(row[i].c_str()).x);
    }
    if (columns.empty()) return;
    const std::string id = "lab/table/" + std::to_string(number);
    ui::TableSpec spec;
    spec.id = id.c_str(), spec.columns = columns, spec.n_rows = static_cast<int>(t.rows.size());
    spec.wraps = true;
    spec.cell = [&](int row, int column) {
        const auto& cells = t.rows[static_cast<size_t>(row)];
        return ui::Cell(static_cast<size_t>(column) < cells.size() ? cells[static_cast<size_t>(column)] : "");
    };
    ui::table(spec);
    ImGui::Dummy({0, px(6)});
}

// A rewound run and the one it left: equal, or where they part.
void draw_replay(const LabRun& a, const LabRun& b) {
    bool is_any = false;
    for (const auto& [metric, series] : a.scalars) {
        const auto other = b.scalars.find(metric);
        if (other == b.scalars.end() || metric == "tokens_per_s") continue;  // time is not repeated
        const Comparison c = compare_series(series, other->second);
        if (c.n_shared == 0) continue;
        if (!is_any) heading("Step by step");
        is_any = true;
        const std::string words = c.first_difference < 0
                                      ? "equal bit for bit over " + ui::format_count(c.n_shared) + " shared steps"
                                      : "differs from step " + ui::format_count(c.first_difference) + " on";
        ui::text_wrapped(metric + ": " + words, ("lab/replay/" + metric).c_str());
    }
    if (!is_any) ui::text_dim("Draw both runs to compare them step by step.");
}

}  // namespace

std::string outcome_text(LabVerdict::Outcome o) {
    static constexpr const char* kSigns[] = {"\xE2\x80\xA6", "\xE2\x9C\x93", "\xE2\x9C\x95", "\xE2\x97\x8B",
                                             "\xC2\xB1"};
    return std::string(kSigns[static_cast<int>(o)]) + " " + lab_outcome_name(o);
}

void draw_verdict(State& s, const LabSnapshot& lab, const std::function<void()>& draw_charts) {
    const LabInfo* info = lab.experiment(s.experiment);
    if (!info) return;
    if (info->is_collection) {
        ui::text_wrapped("These runs belong to no experiment: nothing judges them. Difference compares two of them.",
                         "lab/verdict");
        return;
    }
    const auto it = lab.verdicts.find(s.experiment);
    ui::section("Measured here");
    if (it == lab.verdicts.end()) {
        ui::text_wrapped(
            lab_has_runs(info->badge)
                ? "Nothing yet: the verdict is made of finished runs with the same knobs. What was not measured "
                  "is not claimed."
                : std::string("Nothing yet: press ") + start_word(*info) + ".",
            "lab/verdict");
    } else {
        const LabVerdict& v = it->second;
        ui::text(outcome_text(v.outcome), "lab/outcome");
        ui::text_wrapped(v.sentence, "lab/verdict");
        ImGui::Dummy({0, px(4)});
        draw_charts();
        for (size_t i = 0; i < v.tables.size(); ++i) draw_table(v.tables[i], i);
    }
    ImGui::Dummy({0, px(8)});
    ui::section("Literature");
    heading("The claim");
    ui::text_wrapped(info->claim.empty() ? "none" : info->claim, "lab/verdict/claim");
    heading("What is known");
    ui::text_wrapped(info->literature.empty() ? "nothing is cited" : info->literature, "lab/literature");
}

void draw_difference(State& s, const LabSnapshot& lab) {
    const LabRun* a = lab.find(s.focus);
    const auto runs = runs_of(lab, s.experiment);
    if (!a || runs.size() < 2) {
        ui::empty_state("Two runs are needed",
                        "Run the experiment; the run in focus is compared with another one, field by field.");
        return;
    }
    const LabInfo* info = lab.experiment(s.experiment);
    const LabRun* b = lab.find(s.compared);
    if (!b || b == a || b->experiment != s.experiment || s.compared_for != a->id) b = lab.find(a->parent);
    if (!b || b == a) b = *std::find_if(runs.begin(), runs.end(), [&](const LabRun* r) { return r != a; });
    s.compared = b->id, s.compared_for = a->id;
    heading("A");
    ImGui::SameLine();
    ui::text(run_title(*a, info) + " (" + a->id + ")", "lab/difference/a");
    ImGui::AlignTextToFramePadding();
    heading("B");
    ImGui::SameLine();
    ImGui::SetNextItemWidth(std::max(px(80), ImGui::GetContentRegionAvail().x));
    const std::string chosen = run_title(*b, info) + " (" + b->id + ")";
    const bool is_open = ImGui::BeginCombo("##b", ui::elide(chosen, ImGui::CalcItemWidth() - px(40)).c_str());
    ui::mark("lab/difference/b", chosen);
    if (is_open) {
        for (const LabRun* r : runs)
            if (r != a && ImGui::Selectable((run_title(*r, info) + " (" + r->id + ")").c_str(), r == b))
                s.compared = r->id;
        ImGui::EndCombo();
    }
    if (a->config_json.empty() || b->config_json.empty()) {
        ui::text_dim("A run that has not begun has no config yet.");
        return;
    }
    std::vector<ConfigDifference> fields;
    try {
        fields = compare_configs(a->config_json, b->config_json);
    } catch (const Error& e) {
        ui::text_wrapped(e.what());
        return;
    }
    ui::value("lab/difference/n", static_cast<double>(fields.size()));
    if (fields.empty()) {
        ui::text_wrapped("The configs are equal in every field.", "lab/difference/equal");
    } else {
        static constexpr ui::Column kColumns[] = {{"Field", 0, false, "", true}, {"A", 150}, {"B", 150}};
        ui::TableSpec spec;
        spec.id = "lab/difference", spec.columns = kColumns, spec.n_rows = static_cast<int>(fields.size());
        spec.row_name = [&](int row) { return fields[static_cast<size_t>(row)].field; };
        spec.cell = [&](int row, int column) {
            const ConfigDifference& d = fields[static_cast<size_t>(row)];
            const std::string& v = column == 0 ? d.field : column == 1 ? d.a : d.b;
            return ui::Cell(v.empty() ? "absent" : v);
        };
        ui::table(spec);
    }
    draw_replay(*a, *b);
}

void draw_readme(const State& s, const LabSnapshot& lab) {
    static ui::Markdown readme;
    const LabInfo* info = lab.experiment(s.experiment);
    if (!info || info->readme.empty()) {
        ui::text_dim("This experiment has no README.");
        return;
    }
    readme.draw(info->readme, "lab/readme");
}

}  // namespace vitrine::viz::lab
