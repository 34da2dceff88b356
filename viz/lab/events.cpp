// Below: events and alarms of the runs that are drawn, and all that was recorded with the chosen one.
#include <algorithm>
#include <cmath>
#include <set>

#include "engine/base/error.h"
#include "engine/base/json.h"
#include "viz/lab/state.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/table.h"

namespace vitrine::viz::lab {
namespace {

bool is_wanted(EventFilter f, const std::string& kind) {
    if (f == EventFilter::spikes) return kind == "spike";
    return f == EventFilter::all || (kind != "checkpoint" && kind != "control");
}

// Newest first; what only says that a checkpoint was written comes with the rest.
void collect_rows(State& s, const LabSnapshot& lab) {
    auto& of = s.rows_of;
    if (of.version == lab.version && of.experiment == s.experiment && of.shown == s.shown && of.filter == s.filter)
        return;
    of = {lab.version, s.experiment, s.shown, s.filter};
    s.rows.clear();
    for (size_t r = 0; r < lab.runs.size(); ++r) {
        const LabRun& run = lab.runs[r];
        if (run.experiment != s.experiment || !s.shown.count(run.id)) continue;
        for (size_t i = 0; i < run.events.size(); ++i)
            if (is_wanted(s.filter, run.events[i].kind)) s.rows.push_back({r, i});
    }
    const auto step = [&](const State::EventRow& row) { return lab.runs[row.run].events[row.event].step; };
    std::stable_sort(s.rows.begin(), s.rows.end(), [&](const auto& a, const auto& b) { return step(a) > step(b); });
}

// The step stands in a column of its own.
std::string without_step(const LabEvent& e) {
    const std::string prefix = "step " + std::to_string(e.step) + ": ";
    return e.text.starts_with(prefix) ? e.text.substr(prefix.size()) : e.text;
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
    for (const auto& [key, value] : list.items()[0].members())
        columns.push_back({key.c_str(), 0, value.is_number() && !columns.empty()});
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

// "name value", after the one before while the line has room.
void draw_value(const std::string& of, const std::string& name, const Json& value, bool& is_first) {
    const std::string words = text_of(value), path = "lab/event/" + (of.empty() ? "" : of + "/") + name;
    const float gap = px(14), between = px(6);
    float width = 0;
    {
        ui::FontScope small(Font::small);
        width = ImGui::CalcTextSize(name.c_str()).x + between;
    }
    {
        ui::FontScope mono(Font::mono);
        width += ImGui::CalcTextSize(words.c_str()).x;
    }
    if (!is_first) {
        ImGui::SameLine(0, gap);
        if (ImGui::GetContentRegionAvail().x < width) ImGui::NewLine();
    }
    is_first = false;
    {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        ui::plain(name.c_str());
    }
    ImGui::SameLine(0, between);
    ui::FontScope mono(Font::mono);
    if (ImGui::CalcTextSize(words.c_str()).x <= ImGui::GetContentRegionAvail().x) {
        ui::plain(words.c_str());
        ui::mark(path, words);
    } else {
        ui::text_wrapped(words, path.c_str());
    }
    if (value.is_number()) ui::value(path, value.as_double());
}

// Some lines, and the rest when asked for.
void draw_words(const std::string& name, const Json& list) {
    static constexpr size_t kFew = 4;
    static std::set<std::string> opened;
    ui::text_dim(name + " (" + std::to_string(list.size()) + ")");
    const size_t n = opened.count(name) ? list.size() : std::min(list.size(), kFew);
    {
        ui::FontScope mono(Font::mono_small);
        for (size_t i = 0; i < n; ++i)
            ui::text_wrapped(text_of(list.items()[i]), ("lab/event/" + name + "/" + std::to_string(i)).c_str());
    }
    if (list.size() <= kFew) return;
    const std::string words = n < list.size() ? "All " + std::to_string(list.size()) : "Fewer";
    if (ui::quiet_button((words + "##" + name).c_str(), ("lab/event/" + name + "/all").c_str()))
        n < list.size() ? (void)opened.insert(name) : (void)opened.erase(name);
}

bool is_list_of(const Json& j, Json::Type type) {
    return j.is_array() && j.size() > 0 && j.items()[0].type() == type;
}

// Single values of an object and of those inside it, each object's on lines of its own.
void draw_values(const std::string& name, const Json& j, int depth) {
    bool is_first = true;
    for (const auto& [key, value] : j.members())
        if (!value.is_object() && !is_list_of(value, Json::Type::object) && !is_list_of(value, Json::Type::string)) {
            if (is_first && !name.empty()) {
                ui::FontScope small(Font::small);
                ui::plain(name.c_str());
                is_first = false;
            }
            draw_value(name, key, value, is_first);
        }
    for (const auto& [key, value] : j.members())
        if (value.is_object() && depth < 4) draw_values(key, value, depth + 1);
}

void draw_lists(const Json& j, Json::Type type, int depth) {
    for (const auto& [key, value] : j.members()) {
        if (is_list_of(value, type)) type == Json::Type::object ? draw_list(key, value) : draw_words(key, value);
        if (value.is_object() && depth < 4) draw_lists(value, type, depth + 1);
    }
}

// Single values first, then tables, then lists of words: what is short stands above.
void draw_recorded(const Json& all) {
    if (!all.is_object()) return ui::text_wrapped(all.dump());
    draw_values("", all, 0);
    draw_lists(all, Json::Type::object, 0);
    draw_lists(all, Json::Type::string, 0);
}

// From what happened to the checkpoint before it: the same again, or with one thing changed.
void draw_ways_back(State& s, const LabRun& run, const LabEvent& e, View& view) {
    const int64_t before = checkpoint_before(run, e.step);
    if (before < 0) return;
    const std::string from = before == 0 ? "the beginning" : "step " + ui::format_count(before);
    if (ui::button(("Replay from " + from).c_str(), "lab/event/Replay")) rewind(s, run, before, {}, view.commands);
    ui::tooltip("A new run from the checkpoint before this event, with nothing changed");
    next_button("Change one thing\xE2\x80\xA6");
    if (ui::button("Change one thing\xE2\x80\xA6", "lab/event/Change")) {
        focus_on(s, run.id);
        s.rewind_step = before, s.wants_rewind_value = true;
    }
    ui::tooltip("Below the runs: choose a field, give it another value, and run from that checkpoint");
}

void draw_detail(State& s, const LabRun& run, const LabEvent& e, const LabInfo* info, View& view) {
    if (ui::quiet_button("Close", "lab/event/Close")) s.event_run.clear();
    ImGui::SameLine();
    ui::text(std::string(sign_of(e.kind)) + " " + e.kind + " at step " + ui::format_count(e.step), "lab/event/title");
    ui::text_wrapped(e.text, "lab/event/text");
    ui::text_dim(run_title(run, info));
    draw_ways_back(s, run, e, view);
    if (e.detail.empty()) {
        ui::text_dim("Nothing else was recorded with it.");
        return;
    }
    try {
        draw_recorded(Json::parse(e.detail, "the event's detail"));
    } catch (const Error& problem) {
        ui::text_wrapped(problem.what());
    }
}

}  // namespace

void draw_events(State& s, const LabSnapshot& lab, View& view) {
    const LabInfo* info = lab.experiment(s.experiment);
    static const char* kWhich[] = {"Spikes", "Spikes, alarms, changes", "All"};
    int which = static_cast<int>(s.filter);
    {
        ui::FontScope small(Font::small);
        if (ui::segmented("lab/which events", which, kWhich, 3)) s.filter = static_cast<EventFilter>(which);
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
    const float width = ImGui::GetContentRegionAvail().x, left = selected < 0 ? width : std::floor(width * 0.5f);
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
            return ui::Cell(column == 2 ? without_step(e) : run_title(run_at(row), info));
        };
        if (const int row = ui::table(spec).clicked; row >= 0) show_event(s, run_at(row), index_at(row));
    }
    if (selected < 0) return;
    ImGui::SameLine(0, px(12));
    ui::Region region("event", {0, 0});
    draw_detail(s, run_at(selected), event_at(selected), info, view);
}

}  // namespace vitrine::viz::lab
