// Modes: one question in Non-think, Think High and Think Max side by side, and how routing and cache differ by phase.
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/base/rng.h"
#include "viz/panels.h"
#include "viz/text_util.h"
#include "viz/widgets/bars.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/heatmap.h"
#include "viz/widgets/text_flow.h"
#include "viz/widgets/view_head.h"

namespace vitrine::viz {
namespace {

constexpr Help kHelp = {
    "One question in the three modes, each from the same context in a session of its own: what the model thinks and "
    "answers, how many tokens and how much time that takes. Below, by phase (prompt, thinking, answer): how far the "
    "loads of the experts are apart in every layer, and what the cache held when the phase ended.",
    "Bars of tokens share one scale. A distance of 0 means the same loads, 1 that no expert is used by both. Few "
    "tokens differ by chance alone: a cell is struck through when of 100 deals of the same tokens into two hands more "
    "than five lie as far apart. Click a column to select its layer. Layers with # choose experts by token id: there a "
    "distance only says that the words differ.",
    "distance = \xC2\xBD \xCE\xA3 |share(e) - share'(e)| over experts e;  share = times chosen / all choices",
    "Modes: official encoding_dsv4.py; total variation distance. The same numbers: vitrine compare -p TEXT",
    "Compare a long product such as 4738*62: Non-think must guess what the others work out. Then a question of the "
    "glossary, where thinking has nothing to add.",
};

constexpr Mode kAllModes[] = {Mode::non_think, Mode::high, Mode::max};
constexpr Phase kPhases[] = {Phase::prompt, Phase::thinking, Phase::answer};
constexpr const char* kShort[] = {"Non", "High", "Max"};
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::string short_pair(const PhasePair& p) {
    const auto mode = [](Mode m) { return std::string(kShort[static_cast<int>(m)]); };
    const auto phase = [](Phase x) { return std::string(x == Phase::thinking ? "think" : phase_name(x)); };
    return p.a.mode == p.b.mode ? mode(p.a.mode) + ": " + phase(p.a.phase) + "|" + phase(p.b.phase)
                                : phase(p.a.phase) + ": " + mode(p.a.mode) + "|" + mode(p.b.mode);
}

std::string seconds(double ms) {
    return ms < 1000 ? ui::format_number(ms) + " ms" : ui::format_number(ms / 1000) + " s";
}

class ModesPanel final : public Panel {
  public:
    const char* name() const override { return "Modes"; }
    const Help& help() const override { return kHelp; }
    std::vector<std::string> picture_lines(const Snapshot& s) const override;
    void draw(const Snapshot& s, View& view) override;

  private:
    struct Texts {
        ui::TextFlow thinking, answer;
        bool was_live = false;
    };
    bool draw_head(const Snapshot& s, View& view);
    void draw_mode(const Snapshot& s, const Comparison& c, Mode mode);
    void draw_answer(const Snapshot& s, const ModeAnswer& a, Mode mode, float height);
    void draw_thinking(const ModeAnswer& a, Mode mode, bool is_live);
    void read(const std::shared_ptr<const Comparison>& comparison, int layer);
    void draw_routing(const Snapshot& s, const Comparison& c, View& view);
    void draw_distances(const Snapshot& s, const Comparison& c, View& view);
    void draw_loads(const Comparison& c);
    void draw_cache_row(const Comparison& c, Mode m, Phase p, uint64_t most);
    void draw_cache(const Comparison& c);

    Texts texts_[kModes];
    std::shared_ptr<const Comparison> read_;  // held, so that no other one gets its address
    int read_layer_ = -1;
    int shown_ = 0;  // of the routing: 0 distances, 1 loads of one layer
    std::vector<float> distances_, loads_;
    std::vector<ui::CellMark> marks_;
    std::vector<PhaseRef> phases_;  // rows of `loads_`
    ui::Heatmap distance_map_, load_map_;
};

std::vector<std::string> ModesPanel::picture_lines(const Snapshot& s) const {
    if (!s.comparison || !s.model) return {};
    return {s.model->name + ", " + numerics_name(s.model->numerics),
            "question: " + displayable(s.comparison->question)};
}

// The title, the question and, where nothing was compared, what to do; false then.
bool ModesPanel::draw_head(const Snapshot& s, View& view) {
    ui::section("Modes", &kHelp);
    if (!ui::require_model(s)) return false;
    const Comparison* c = s.comparison.get();
    if (!c) {
        const bool has_question = s.conversation && !s.conversation->path.empty();
        if (ui::empty_state(
                "Nothing was compared yet",
                "Write a question in the chat and press Compare instead of Send: the model answers it in all three "
                "modes, and the conversation stays as it is.",
                has_question ? "Compare the last question" : nullptr))
            view.run = "chat.compare";
        return false;
    }
    ImGui::SameLine(0, px(12));
    const std::string context =
        c->n_earlier_turns == 0 ? "" : "  (after " + ui::format_count(c->n_earlier_turns) + " earlier turns)";
    // Of a message of several lines the last: that is where the question is.
    const std::string all = c->question.substr(0, c->question.find_last_not_of(" \n") + 1);
    const size_t last = all.rfind('\n');
    const std::string question =
        (last == std::string::npos ? displayable(all) : "\xE2\x80\xA6 " + displayable(all.substr(last + 1))) + context;
    ui::badge(Source::live);
    ImGui::SameLine(0, px(12));
    ui::Color dim(theme().text_dim);
    ui::text_in(question, std::max(px(40), ImGui::GetContentRegionAvail().x - px(4)), "modes/question");
    return true;
}

void ModesPanel::draw(const Snapshot& s, View& view) {
    if (!draw_head(s, view)) return;
    const Comparison& c = *s.comparison;
    read(s.comparison, view.cursor.layer);
    const bool is_narrow = ui::is_narrow();
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const float gap = ImGui::GetStyle().ItemSpacing.x;
    const float upper = is_narrow ? px(190) : std::max(px(150), std::floor(room.y * 0.52f)),
                column = std::floor((room.x - 2 * gap) / kModes);
    for (const Mode m : kAllModes) {
        if (m != Mode::non_think && !is_narrow) ImGui::SameLine(0, gap);
        ui::Pane pane((std::string("mode-") + mode_name(m)).c_str(), {m == Mode::max || is_narrow ? 0 : column, upper},
                      ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
        draw_mode(s, c, m);
    }
    const float left = is_narrow ? 0 : std::floor(room.x * 0.6f);
    const float lower = is_narrow ? px(260) : std::max(px(200), ImGui::GetContentRegionAvail().y);
    {
        ui::Pane pane("modes-routing", {left, lower},
                      ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
        draw_routing(s, c, view);
    }
    if (!is_narrow) ImGui::SameLine(0, gap);
    {
        ui::Pane pane("modes-cache", {0, lower});
        draw_cache(c);
    }
}

void ModesPanel::draw_mode(const Snapshot& s, const Comparison& c, Mode mode) {
    const ModeAnswer& a = c.at(mode);
    const std::string name = std::string("modes/") + mode_name(mode);
    const bool is_live = a.state == ModeAnswer::State::running && s.is_comparing;
    std::string cost;
    if (a.state == ModeAnswer::State::done)
        cost = ui::format_count(a.n_written()) + " tokens, " + seconds(a.total_ms());
    else if (a.state == ModeAnswer::State::failed)
        cost = "not answered";
    else
        cost = !s.is_comparing ? "stopped" : !is_live ? "waits" : a.n_written() == 0 ? "reads" : "writes";
    const float room = ImGui::GetContentRegionAvail().x;
    float cost_width;
    {
        ui::FontScope mono(Font::mono_small);
        cost_width = std::min(ImGui::CalcTextSize(cost.c_str()).x, room * 0.65f);
    }
    {
        ui::FontScope bold(Font::title);
        ui::text_in(mode_title(mode), room - cost_width - px(8), (name + "/title").c_str());
    }
    ImGui::SameLine(0, px(8));
    {
        ui::FontScope mono(Font::mono_small);
        ui::Color dim(theme().text_dim);
        ui::text_in(cost, cost_width, (name + "/cost").c_str());
    }
    // Tokens, on one scale for the three.
    double longest = 1;
    for (const ModeAnswer& m : c.modes) longest = std::max<double>(longest, m.stats.n_prompt + m.n_written());
    const ui::Share parts[] = {{"prompt", static_cast<double>(a.stats.n_prompt), theme().prompt},
                               {"thinking", static_cast<double>(a.stats.n_thinking), theme().thinking},
                               {"answer", static_cast<double>(a.stats.n_answer), theme().answer}};
    ui::stacked_bar((name + "/tokens").c_str(), parts, room, px(8), longest, "tokens");
    {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        ui::text_in(ui::format_count(a.stats.n_prompt) + " read, " + ui::format_count(a.stats.n_thinking) +
                        " thought, " + ui::format_count(a.stats.n_answer) + " answered" +
                        (a.stats.stop_reason.empty() || a.stats.stop_reason == "end of text"
                             ? ""
                             : "; ended by " + a.stats.stop_reason),
                    room, (name + "/counts").c_str());
    }
    if (ui::registry_is_on()) {
        for (const Phase p : kPhases) ui::value(name + "/ms/" + phase_name(p), a.at(p).ms);
        ui::value(name + "/written", a.n_written());
    }
    const float left = ImGui::GetContentRegionAvail().y;
    // While it is written the answer keeps its room, so that the thinking stays where it is; then the thinking gets the
    // rest.
    const float most = std::floor(std::min(left * 0.36f, px(104))), line = ImGui::GetTextLineHeightWithSpacing();
    const float needed = texts_[static_cast<int>(mode)].answer.height() + px(6);
    draw_answer(s, a, mode,
                mode == Mode::non_think ? left
                : s.is_comparing        ? most
                                        : std::clamp(needed, line, std::max(line, most)));
    if (mode != Mode::non_think) draw_thinking(a, mode, is_live);
}

void ModesPanel::draw_answer(const Snapshot& s, const ModeAnswer& a, Mode mode, float height) {
    const std::string name = std::string("modes/") + mode_name(mode);
    ui::Region region((name + "/answer").c_str(), {0, height});
    if (a.state == ModeAnswer::State::failed) {
        ui::text_wrapped(a.problem, (name + "/problem").c_str());
        return;
    }
    const std::string text = displayable(a.content);
    if (text.empty()) {
        const bool is_thinking = a.stats.n_thinking > 0;
        ui::text_dim(s.is_comparing ? (is_thinking ? "is thinking\xE2\x80\xA6" : "") : "no answer",
                     (name + "/empty").c_str());
        return;
    }
    texts_[static_cast<int>(mode)].answer.draw(text, fnv1a64(text), ImGui::GetContentRegionAvail().x - px(4), {});
    ui::mark(name + "/answer", text);
}

void ModesPanel::draw_thinking(const ModeAnswer& a, Mode mode, bool is_live) {
    const std::string name = std::string("modes/") + mode_name(mode);
    {
        ui::FontScope small(Font::small);
        ui::Color ink(theme().text_dim);
        ui::text_in("Thinking", ImGui::GetContentRegionAvail().x);
    }
    const ImVec2 p = ImGui::GetCursorScreenPos();
    const float height = ImGui::GetContentRegionAvail().y;
    ImGui::GetWindowDrawList()->AddRectFilled({p.x, p.y}, {p.x + px(2), p.y + height}, theme().thinking, px(1));
    ImGui::SetCursorScreenPos({p.x + px(10), p.y});
    ui::Region region((name + "/thinking").c_str(), {0, height});
    const std::string text = displayable(a.reasoning);
    if (text.empty()) return;
    ui::Color dim(theme().text_dim);
    texts_[static_cast<int>(mode)].thinking.draw(text, fnv1a64(text), ImGui::GetContentRegionAvail().x - px(4), {});
    ui::mark(name + "/thinking", text);
    // While it is written its end is followed; then it is read from the beginning.
    bool& was_live = texts_[static_cast<int>(mode)].was_live;
    if (is_live)
        ImGui::SetScrollHereY(1.0f);
    else if (was_live)
        ImGui::SetScrollY(0);
    was_live = is_live;
}

// Maps, once per comparison and layer.
void ModesPanel::read(const std::shared_ptr<const Comparison>& comparison, int layer) {
    if (read_ == comparison && read_layer_ == layer) return;
    read_ = comparison, read_layer_ = layer;
    const Comparison& c = *comparison;
    distances_.clear(), loads_.clear(), marks_.clear(), phases_.clear();
    for (int p = 0; p < kPhasePairCount; ++p) {
        for (int l = 0; l < c.n_layers; ++l) {
            distances_.push_back(static_cast<float>(c.distance(p, l).distance));
            if (c.distance(p, l).is_within_chance())
                marks_.push_back({p, l, ui::CellMark::Kind::hatch});
        }
        distances_.push_back(static_cast<float>(c.mean_distance(p)));
    }
    for (const Mode m : kAllModes)
        for (const Phase p : kPhases) {
            if (m == Mode::non_think && p == Phase::thinking) continue;
            phases_.push_back({m, p});
            const std::vector<int64_t> counts = layer_loads(c.at({m, p}), layer, c.n_experts);
            double sum = 0;
            for (const int64_t n : counts) sum += static_cast<double>(n);
            for (int e = 0; e < c.n_experts; ++e)
                loads_.push_back(sum > 0 ? static_cast<float>(static_cast<double>(counts[e]) / sum) : kNaN);
        }
}

void ModesPanel::draw_routing(const Snapshot& s, const Comparison& c, View& view) {
    ui::section("Routing by phase");
    ImGui::SameLine(0, px(12));
    static constexpr const char* kWhat[] = {"distances", "loads"};
    ui::segmented("modes/routing", shown_, kWhat, 2);
    if (shown_ == 1) {
        ui::text_dim("share of the choices by expert, " + ui::layer_text(s.model->config, view.cursor.layer),
                     "modes/loads/line");
        return draw_loads(c);
    }
    ui::text_dim("distance between expert loads by layer; struck through: no more than chance gives",
                 "modes/distance/line");
    draw_distances(s, c, view);
}

void ModesPanel::draw_distances(const Snapshot& s, const Comparison& c, View& view) {
    ui::HeatmapSpec spec;
    spec.id = "modes/distance", spec.has_names = true;
    spec.values = distances_;
    spec.rows = kPhasePairCount, spec.cols = c.n_layers + 1;  // the last column: mean over layers
    spec.lo = 0, spec.hi = 1;
    spec.value_name = "distance";
    spec.row_name = "", spec.col_name = "layer";
    spec.row_label = [](int r) { return short_pair(kPhasePairs[r]); };
    spec.col_label = [&](int l) {
        if (l == c.n_layers) return std::string("all");
        return std::to_string(l) + (s.model->config.layers[static_cast<size_t>(l)].is_hash_routed ? "#" : "");
    };
    spec.hover = [&](int r, int l) {
        const PhasePair& pair = kPhasePairs[r];
        ui::plain(pair_name(pair).c_str());
        ui::plainf("%d and %d tokens", c.at(pair.a).n_counted, c.at(pair.b).n_counted);
        if (l == c.n_layers) return ui::plain("mean over the layers");
        const LoadDistance& d = c.distance(r, l);
        if (!d.is_known()) return ui::plain("one of them has no tokens");
        if (!d.has_chance())
            return ui::plainf("more than %d tokens: what chance gives was not dealt", PhaseMeasure::kMaxKept);
        ui::plainf("by chance %s; 95 of 100 deals at most %s", ui::format_number(d.chance).c_str(),
                    ui::format_number(d.chance_95).c_str());
        ui::plain(d.exceeds_chance() ? "more than chance" : "no more than chance gives");
    };
    spec.marks = marks_;
    spec.selected_col = view.cursor.layer;
    spec.shows_numbers = true;
    const ui::HeatmapResult result = distance_map_.draw(spec);
    if (result.is_clicked && result.hovered_col < c.n_layers) view.cursor.layer = result.hovered_col;
}

void ModesPanel::draw_loads(const Comparison& c) {
    ui::HeatmapSpec spec;
    spec.id = "modes/loads", spec.has_names = true;
    spec.values = loads_;
    spec.rows = static_cast<int>(phases_.size()), spec.cols = c.n_experts;
    spec.lo = 0, spec.hi = 0;
    spec.value_name = "share";
    spec.row_name = "", spec.col_name = "expert";
    spec.row_label = [&](int r) {
        const PhaseRef& p = phases_[static_cast<size_t>(r)];
        return std::string(kShort[static_cast<int>(p.mode)]) + " " + phase_name(p.phase);
    };
    spec.row_color = [&](int r) {
        const Phase p = phases_[static_cast<size_t>(r)].phase;
        return p == Phase::prompt ? theme().text_dim : theme().phase(p);
    };
    const int every = c.n_experts <= 64 ? 1 : 32;
    spec.col_label = [every](int e) { return e % every == 0 ? std::to_string(e) : std::string(); };
    spec.hover = [&](int r, int) {
        const PhaseMeasure& m = c.at(phases_[static_cast<size_t>(r)]);
        ui::plainf("of %s choices of %d tokens", ui::format_count(int64_t{m.n_counted} * c.n_chosen).c_str(),
                    m.n_counted);
        ui::plainf("even would be %s", ui::format_number(1.0 / c.n_experts).c_str());
    };
    load_map_.draw(spec);
    if (!ui::registry_is_on()) return;
    for (size_t i = 0; i < loads_.size(); ++i)
        ui::value("modes/load/" + std::to_string(i / static_cast<size_t>(c.n_experts)) + "/" +
                      std::to_string(i % static_cast<size_t>(c.n_experts)),
                  loads_[i]);
}

// One bar: what the cache held when a phase of a mode ended, on the scale of the fullest.
void ModesPanel::draw_cache_row(const Comparison& c, Mode m, Phase p, uint64_t most) {
    const PhaseMeasure& phase = c.at(m).at(p);
    const std::string name = std::string("modes/cache/") + mode_name(m) + "/" + phase_name(p);
    const float room = ImGui::GetContentRegionAvail().x, row = ImGui::GetTextLineHeight() + px(3);
    const float label = ImGui::CalcTextSize("High thinking ").x, number = ImGui::CalcTextSize("99.9 KiB ").x;
    const ImVec2 at = ImGui::GetCursorScreenPos();
    const float inset = (row - ImGui::GetTextLineHeight()) / 2;
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const std::string words = std::string(kShort[static_cast<int>(m)]) + " " + phase_name(p);
    ui::paint_text(dl, {at.x, at.y + inset}, theme().text_dim, words.c_str());
    ImGui::SetCursorScreenPos({at.x + label, at.y + px(3)});
    std::vector<ui::Share> parts;
    for (int k = 0; k < kCacheKinds; ++k)
        parts.push_back({cache_kind_name(static_cast<CacheKind>(k)), static_cast<double>(phase.filled[k]),
                         theme().kind(static_cast<CacheKind>(k))});
    ui::stacked_bar(name.c_str(), parts, std::max(px(20), room - label - number), row - px(6),
                    static_cast<double>(most), "B");
    const bool is_known = !phase.cache.layers.empty();
    const std::string total = is_known ? ui::format_bytes(phase.n_filled()) : "\xE2\x80\x93";
    ui::paint_text(dl, {at.x + room - ImGui::CalcTextSize(total.c_str()).x, at.y + inset}, theme().text, total.c_str());
    ui::value_rect(name + "/total", static_cast<double>(phase.n_filled()), at, {at.x + room, at.y + row});
    ui::value(name + "/entries", static_cast<double>(phase.n_entries()));
    ui::value(name + "/length", static_cast<double>(phase.cache.n_tokens));
    ImGui::SetCursorScreenPos(at);
    ImGui::Dummy({label, row});
    if (is_known)
        ui::tooltip(ui::format_count(phase.cache.n_tokens) + " tokens read, " + ui::format_count(phase.n_entries()) +
                    " compressed entries: " + ui::format_bytes(phase.n_filled()) +
                    "; allocated in blocks: " + ui::format_bytes(phase.cache.total()));
    ImGui::SetCursorScreenPos({at.x, at.y + row});
}

void ModesPanel::draw_cache(const Comparison& c) {
    ui::section("Cache by phase");
    ui::text_dim("bytes that hold something when the phase ended", "modes/cache/line");
    uint64_t most = 1;
    for (const ModeAnswer& m : c.modes)
        for (const PhaseMeasure& p : m.phases) most = std::max(most, p.n_filled());
    {
        ui::FontScope mono(Font::mono_small);
        for (const Mode m : kAllModes)
            for (const Phase p : kPhases)
                if (m != Mode::non_think || p != Phase::thinking) draw_cache_row(c, m, p, most);
    }
    ImGui::Dummy({0, px(2)});
    ui::FontScope small(Font::small);
    const float half = std::floor(ImGui::GetContentRegionAvail().x / 2);
    for (int k = 0; k < kCacheKinds; ++k) {
        if (k % 2 == 1) ImGui::SameLine(half);
        ui::dot(theme().kind(static_cast<CacheKind>(k)), 4);
        ImGui::SameLine(0, px(6));
        ui::text_in(cache_kind_name(static_cast<CacheKind>(k)), half - px(24));
    }
}

}  // namespace

std::unique_ptr<Panel> make_modes_panel() {
    return std::make_unique<ModesPanel>();
}

}  // namespace vitrine::viz
