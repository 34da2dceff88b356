// Below: events and alarms of the runs that are drawn, and all that was recorded with the chosen one.
#include <algorithm>
#include <cmath>

#include "engine/base/error.h"
#include "engine/base/json.h"
#include "viz/lab/state.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/table.h"

namespace vitrine::viz::lab {
namespace {

// Newest first; what only says that a checkpoint was written comes with the rest.
void collect_rows(State& s, const LabSnapshot& lab) {
    auto& of = s.rows_of;
    if (of.version == lab.version && of.experiment == s.experiment && of.shown == s.shown &&
        of.has_all == s.shows_all_events)
        return;
    of = {lab.version, s.experiment, s.shown, s.shows_all_events};
    s.rows.clear();
    for (size_t r = 0; r < lab.runs.size(); ++r) {
        const LabRun& run = lab.runs[r];
        if (run.experiment != s.experiment || !s.shown.count(run.id)) continue;
        for (size_t i = 0; i < run.events.size(); ++i)
            if (s.shows_all_events || (run.events[i].kind != "checkpoint" && run.events[i].kind != "control"))
                s.rows.push_back({r, i});
    }
    const auto step = [&](const State::EventRow& row) { return lab.runs[row.run].events[row.event].step; };
    std::stable_sort(s.rows.begin(), s.rows.end(), [&](const auto& a, const auto& b) { return step(a) > step(b); });
}

const char* sign_of(const std::string& kind) {
    if (kind == "spike") return "\xE2\x96\xB2";
    if (kind == "alarm") return "!";
    if (kind == "skipped") return "\xE2\x9C\x95";
    if (kind == "change") return "\xE2\x97\x8F";
    return "\xC2\xB7";
}

std::string text_of(const Json& j) {
    return j.is_string() ? j.as_string() : j.type() == Json::Type::real ? ui::format_number(j.as_double()) : j.dump();
}

// A list of objects as a table; the columns are the first one's names.
void draw_list(const std::string& name, const Json& list) {
    std::vector<ui::Column> columns;
    for (const auto& [key, value] : list.items()[0].members()) columns.push_back({key.c_str(), 0, value.is_number()});
    if (columns.empty()) return;
    ui::text_dim(name);
    const std::string id = "lab/event/" + name;
    ui::TableSpec spec;
    spec.id = id.c_str(), spec.columns = columns, spec.n_rows = static_cast<int>(list.size());
    spec.cell = [&](int row, int column) {
        const Json* v = list.items()[static_cast<size_t>(row)].find(columns[static_cast<size_t>(column)].title);
        if (!v) return ui::Cell("");
        return v->type() == Json::Type::real ? ui::Cell::value(v->as_double()) : ui::Cell(text_of(*v));
    };
    ui::table(spec);
}

void draw_recorded(const std::string& name, const Json& j, int depth) {
    if (j.is_array() && j.size() > 0 && j.items()[0].is_object()) return draw_list(name, j);
    if (j.is_object() && depth < 4) {
        if (!name.empty()) ui::text_dim(name);
        for (const auto& [key, value] : j.members()) draw_recorded(key, value, depth + 1);
        return;
    }
    if (j.is_array() && j.size() > 0 && depth < 4 && j.items()[0].is_string()) {
        ui::text_dim(name);
        ui::FontScope mono(Font::mono_small);
        for (size_t i = 0; i < j.size(); ++i)
            ui::text_wrapped(text_of(j.items()[i]), ("lab/event/" + name + "/" + std::to_string(i)).c_str());
        return;
    }
    const std::string words = text_of(j);
    {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        ImGui::TextUnformatted(name.c_str());
    }
    ImGui::SameLine();
    ui::FontScope mono(Font::mono);
    ui::text_wrapped(words, ("lab/event/" + name).c_str());
}

void draw_detail(State& s, const LabRun& run, const LabEvent& e, const LabInfo* info) {
    if (ui::quiet_button("Close", "lab/event/Close")) s.event_run.clear();
    ImGui::SameLine();
    ui::text(std::string(sign_of(e.kind)) + " " + e.kind + " at step " + ui::format_count(e.step), "lab/event/title");
    ui::text_wrapped(e.text, "lab/event/text");
    ui::text_dim(run_title(run, info));
    if (e.detail.empty()) {
        ui::text_dim("Nothing else was recorded with it.");
        return;
    }
    try {
        draw_recorded("", Json::parse(e.detail, "the event's detail"), 0);
    } catch (const Error& problem) {
        ui::text_wrapped(problem.what());
    }
}

}  // namespace

void draw_events(State& s, const LabSnapshot& lab) {
    const LabInfo* info = lab.experiment(s.experiment);
    static const char* kWhich[] = {"Spikes, alarms, changes", "All"};
    int which = s.shows_all_events ? 1 : 0;
    {
        ui::FontScope small(Font::small);
        if (ui::segmented("lab/which events", which, kWhich, 2)) s.shows_all_events = which == 1;
    }
    collect_rows(s, lab);
    if (s.rows.empty()) {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        ui::text_wrapped(
            "Nothing happened yet. A click on an event puts the cursor on its step and shows what was recorded with "
            "it.",
            "lab/no events");
        return;
    }
    int selected = -1;
    for (size_t i = 0; i < s.rows.size() && !s.event_run.empty(); ++i)
        if (s.rows[i].event == s.event && lab.runs[s.rows[i].run].id == s.event_run) selected = static_cast<int>(i);
    const auto run_at = [&](int row) -> const LabRun& { return lab.runs[s.rows[static_cast<size_t>(row)].run]; };
    const auto index_at = [&](int row) { return s.rows[static_cast<size_t>(row)].event; };
    const auto event_at = [&](int row) -> const LabEvent& { return run_at(row).events[index_at(row)]; };
    const float width = ImGui::GetContentRegionAvail().x, left = selected < 0 ? width : std::floor(width * 0.55f);
    {
        ui::Region region("events", {left, 0});
        static constexpr ui::Column kColumns[] = {{"Step", 56, true}, {"Kind", 92}, {"What happened"}, {"Run", 150}};
        const size_t n_columns = left < px(480) ? 3 : 4;
        ui::TableSpec spec;
        spec.id = "lab/events", spec.columns = std::span(kColumns, n_columns),
        spec.n_rows = static_cast<int>(s.rows.size()), spec.height = -1;
        spec.selected = selected;
        spec.row_name = [&](int row) { return run_at(row).id + "/" + std::to_string(index_at(row)); };
        spec.cell = [&](int row, int column) {
            const LabEvent& e = event_at(row);
            if (column == 0) return ui::Cell::count(e.step);
            if (column == 1) return ui::Cell(std::string(sign_of(e.kind)) + " " + e.kind);
            return ui::Cell(column == 2 ? e.text : run_title(run_at(row), info));
        };
        if (const int row = ui::table(spec).clicked; row >= 0) {
            s.event_run = s.focus = run_at(row).id, s.event = index_at(row),
            s.cursor = static_cast<double>(event_at(row).step);
        }
    }
    if (selected < 0) return;
    ImGui::SameLine(0, px(12));
    ui::Region region("event", {0, 0});
    draw_detail(s, run_at(selected), event_at(selected), info);
}

}  // namespace vitrine::viz::lab
