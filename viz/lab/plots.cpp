// The plots of the experiment on one time axis.
#include "viz/lab/plots.h"

#include <algorithm>
#include <cmath>

#include "viz/imgui_compat.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz::lab {
namespace {

constexpr size_t kMaxGroups = 24, kMaxLines = 24;

const char* sign_of(const std::string& kind) {
    return kind == "spike" ? "spike" : kind == "change" ? "change" : kind == "alarm" ? "alarm" : "";
}

}  // namespace

std::vector<Plots::Group> Plots::group(const State& s, const LabSnapshot& lab) const {
    const LabInfo* info = lab.experiment(s.experiment);
    std::vector<Group> out;
    std::map<std::string, size_t> index;
    for (const LabRun& r : lab.runs) {
        if (r.experiment != s.experiment || !s.shown.count(r.id)) continue;
        const std::string name = group_of(r, info);
        const auto [it, is_new] = index.try_emplace(name, out.size());
        if (is_new) out.push_back({name, group_color(lab, s.experiment, name), {}});
        out[it->second].runs.push_back(&r);
    }
    return out;
}

// Spikes, alarms and changes of the run in focus: lines across every plot, the chosen one in words.
std::vector<ui::Line> Plots::events_of(const State& s, const LabSnapshot& lab) const {
    std::vector<ui::Line> out;
    const LabRun* r = lab.find(s.focus);
    if (!r) return out;
    for (auto e = r->events.rbegin(); e != r->events.rend() && out.size() < kMaxLines; ++e)
        if (const char* sign = sign_of(e->kind); *sign)
            out.push_back({static_cast<double>(e->step), sign, with_alpha(theme().text_dim, 0.7f), true});
    return out;
}

// The cursor goes to the step; on the line of an event of the run in focus, its record is shown.
void Plots::click(State& s, const LabSnapshot& lab, const ui::PlotResult& at) const {
    s.cursor = std::max(0.0, std::round(at.x));
    const LabRun* r = lab.find(s.focus);
    if (!r) return;
    double nearest = at.x_slack;
    for (size_t i = 0; i < r->events.size(); ++i) {
        const LabEvent& e = r->events[i];
        const double distance = std::fabs(static_cast<double>(e.step) - at.x);
        if (!*sign_of(e.kind) || distance > nearest) continue;
        nearest = distance;
        show_event(s, *r, i);
    }
}

void Plots::draw_metrics(State& s, const LabSnapshot& lab, const LabPlot& spec, const std::vector<Group>& groups,
                         float height) {
    Drawn& drawn = drawn_[spec.title];
    height += drawn.plot.legend_height();
    ui::Pane pane(("lab-plot-" + spec.title).c_str(), {0, height},
                  ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
    ui::text(spec.title, ("lab/plot/" + spec.title + "/title").c_str());
    std::vector<ui::Series> series;
    for (size_t g = 0; g < std::min(groups.size(), kMaxGroups); ++g)
        for (size_t m = 0; m < spec.metrics.size(); ++m) {
            std::vector<const LabSeries*> members;
            std::vector<const LabRun*> runs;
            for (const LabRun* r : groups[g].runs)
                if (const auto it = r->scalars.find(spec.metrics[m]);
                    it != r->scalars.end() && !it->second.step.empty())
                    members.push_back(&it->second), runs.push_back(r);
            if (members.empty()) continue;
            const std::string name = groups[g].name + (spec.metrics.size() > 1 ? " \xC2\xB7 " + spec.metrics[m] : "");
            GroupCurve& curve = drawn.curves[groups[g].name + "/" + spec.metrics[m]];
            curve.update(members);
            const std::string seeds = curve.n_seeds() > 1 ? " (" + std::to_string(curve.n_seeds()) + " seeds)" : "";
            series.push_back(curve.series(name + seeds, groups[g].color, m > 0));
            for (const size_t i : curve.strays()) {  // recorded at other steps: a line of its own
                ui::Series one;
                one.name = name + " seed " + std::to_string(runs[i]->seed) + " (other steps)",
                one.color = groups[g].color;
                one.x = members[i]->step, one.y = members[i]->value, one.revision = members[i]->revision;
                one.is_dashed = true;
                series.push_back(one);
            }
        }
    if (series.empty()) {
        ui::text_dim("No points yet: " + (spec.metrics.empty() ? std::string("no metric") : spec.metrics[0]));
        return;
    }
    const std::string id = "lab/plot/" + spec.title;
    ui::PlotSpec p;
    p.id = id.c_str(), p.series = series, p.lines = lines_;
    p.x_label = spec.x_label.empty() ? "step" : spec.x_label.c_str(), p.y_label = spec.y_label.c_str();
    p.is_log_x = spec.log_x, p.is_log_y = spec.log_y;
    p.x_lo = spec.log_x ? 1 : 0, p.x_hi = std::max(last_step_, p.x_lo + 1);
    p.is_integer_x = true;
    p.x_text = [](double v) { return ui::format_count(static_cast<int64_t>(v)); };
    p.selected_x = s.cursor, p.has_selected_x = s.cursor >= 0;
    p.linked_x = &x_;
    if (const ui::PlotResult result = drawn.plot.draw(p); result.is_clicked) click(s, lab, result);
}

void Plots::draw_chart(const LabChart& chart, float height) {
    height += charts_[chart.title].legend_height();  // many curves: what names them takes nothing from them
    ui::Pane pane(("lab-chart-" + chart.title).c_str(), {0, height},
                  ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
    ui::text(chart.title, ("lab/chart/" + chart.title + "/title").c_str());
    const Theme& t = theme();
    const ImU32 hues[] = {t.csa, t.window, t.hca, t.index_key, t.compressor_state, t.thinking};
    std::vector<ui::Series> series;
    for (size_t i = 0; i < chart.curves.size(); ++i) {
        const LabCurve& c = chart.curves[i];
        ui::Series one;
        one.name = c.label, one.color = hues[i % 6], one.is_dashed = i >= 6, one.x = c.x, one.y = c.y;
        one.has_points = c.x.size() <= 40;
        if (c.lowest.size() == c.y.size() && c.highest.size() == c.y.size()) one.band_lo = c.lowest, one.band_hi = c.highest;
        series.push_back(one);
    }
    const std::string id = "lab/chart/" + chart.title;
    ui::PlotSpec p;
    p.id = id.c_str(), p.series = series;
    p.x_label = chart.x_label.c_str(), p.y_label = chart.y_label.c_str();
    p.is_log_x = chart.log_x, p.is_log_y = chart.log_y;
    charts_[chart.title].draw(p);
}

// Any other scalar that the run in focus has recorded.
void Plots::draw_add(State& s, const LabSnapshot& lab) {
    const LabRun* r = lab.find(s.focus);
    if (!r || r->metrics.empty()) return;
    ImGui::SetNextItemWidth(std::min(px(260), ImGui::GetContentRegionAvail().x));
    const bool is_open = ImGui::BeginCombo("##add", "Add a plot\xE2\x80\xA6");
    ui::mark("lab/add", "Add a plot");
    if (is_open) {
        ImGui::InputTextWithHint("##filter", "part of a name", &filter_);
        for (const std::string& metric : r->metrics) {
            if (!contains_folded(metric, filter_)) continue;
            const bool is_on = std::count(s.extra.begin(), s.extra.end(), metric) > 0;
            if (ImGui::Selectable(displayable(metric).c_str(), is_on)) {
                if (is_on)
                    std::erase(s.extra, metric);
                else
                    s.extra.push_back(metric);
            }
            ui::mark("lab/add/" + metric, metric);
        }
        ImGui::EndCombo();
    }
    if (!s.extra.empty()) {
        ImGui::SameLine();
        if (ui::quiet_button("Remove added", "lab/add/remove")) s.extra.clear();
    }
}

void Plots::draw_export(State& s, View& view) {
    if (s.shown.empty()) return;
    ImGui::SameLine();
    if (ui::quiet_button("TensorBoard", "lab/export events"))
        ask(view.commands, ExportEvents{{s.shown.begin(), s.shown.end()}, ""});
    ui::tooltip(
        "Writes all scalars of the drawn runs as event files. A plot's own menu (right click) exports PNG, SVG and "
        "CSV.");
}

void Plots::draw_nothing(const LabSnapshot& lab, const LabInfo* info, View& view) const {
    if (!info || lab_has_runs(info->badge)) {
        ui::empty_state("No runs are drawn", "Press Run, or click the circle before a run in the list to draw it.");
        return;
    }
    const bool is_measured = info->badge == LabBadge::measured;
    if (!is_at_work(lab, info->name)) {
        ui::empty_state(is_measured ? "Nothing was measured yet" : "Nothing was calculated yet",
                        ("Press " + std::string(start_word(*info)) + ": it trains nothing.").c_str());
        return;
    }
    const std::string& line = lab.work_line;
    const bool is_first = lab.at_work.front() == info->name;
    if (ui::empty_state(
            !is_first     ? ("Waits for " + lab.at_work.front()).c_str()
            : is_measured ? "Measuring"
                          : "Calculating",
            !is_first || line.empty() ? ("The preset takes " + info->expected_time + ".").c_str() : line.c_str(),
            "Stop"))
        ask(view.commands, CancelWork{info->name});
}

void Plots::draw_charts(const State& s, const LabSnapshot& lab) {
    const LabInfo* info = lab.experiment(s.experiment);
    const auto verdict = lab.verdicts.find(s.experiment);
    if (!info || !lab_has_runs(info->badge) || verdict == lab.verdicts.end()) return;
    if (charts_of_ != s.experiment) charts_.clear(), charts_of_ = s.experiment;
    for (const LabChart& c : verdict->second.charts) draw_chart(c, px(230));
}

void Plots::draw(State& s, const LabSnapshot& lab, View& view) {
    if (experiment_ != s.experiment) drawn_.clear(), x_ = {}, experiment_ = s.experiment;
    if (charts_of_ != s.experiment) charts_.clear(), charts_of_ = s.experiment;
    const LabInfo* info = lab.experiment(s.experiment);
    const auto verdict = lab.verdicts.find(s.experiment);
    const std::vector<LabChart> none;
    const bool has_runs = info && lab_has_runs(info->badge);  // their charts stand with the verdict
    const std::vector<LabChart>& charts = has_runs || verdict == lab.verdicts.end() ? none : verdict->second.charts;
    const std::vector<Group> groups = group(s, lab);
    if (groups.empty() && charts.empty()) return draw_nothing(lab, info, view);
    last_step_ = 0;
    for (const Group& g : groups)
        for (const LabRun* r : g.runs)
            for (const auto& [name, one] : r->scalars)
                if (!one.step.empty()) last_step_ = std::max(last_step_, one.step.back());
    lines_ = events_of(s, lab);
    std::vector<LabPlot> plots;
    if (info && !groups.empty()) plots = info->plots;
    for (const std::string& metric : s.extra) plots.push_back({metric, "step", metric, {metric}, false, false});
    const size_t n = plots.size() + charts.size();
    const float gap = ImGui::GetStyle().ItemSpacing.y,
                room = ImGui::GetContentRegionAvail().y - ImGui::GetFrameHeight() - gap;
    const float each =
        std::max(px(180), std::floor(room / static_cast<float>(std::max<size_t>(1, std::min<size_t>(n, 3))) - gap));
    draw_add(s, lab);
    draw_export(s, view);
    for (const LabPlot& p : plots) draw_metrics(s, lab, p, groups, each);
    for (const LabChart& c : charts) draw_chart(c, each);
    if (groups.size() > kMaxGroups)
        ui::text_dim("The first " + std::to_string(kMaxGroups) + " of " + std::to_string(groups.size()) +
                     " groups are drawn: leave some runs out.");
}

}  // namespace vitrine::viz::lab
