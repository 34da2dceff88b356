// Every view in every state: nothing open, nothing said, typical, huge, broken numbers; in both themes and at three
// sizes no text is cut; hovering changes nothing, clicking selects; what a view asks of the engine.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>

#include "tests/support/temp_folder.h"
#include "tests/viz/stage.h"
#include "viz/widgets/export.h"
#include "viz/widgets/registry.h"

namespace vitrine::viz::test {
namespace {

const char* kViews[] = {"Overview", "Routing", "Attention", "Streams", "Cache", "Model"};
constexpr const char* kTiles[] = {"Routing", "Attention", "Streams", "Cache"};

std::string first_cut() {
    const auto cut = ui::find_cut_text();
    if (cut.empty()) return {};
    return std::to_string(cut.size()) + " texts, first in " + cut[0].window + " at " + std::to_string(cut[0].at.x) +
           ", " + std::to_string(cut[0].at.y);
}

TEST(ViewsStates, NothingOpenSaysWhatToDo) {
    Stage stage;
    for (const char* view : kViews) {
        stage.draw(view, Snapshot{});
        EXPECT_EQ(stage.text("empty"), "No model is open") << view;
    }
}

TEST(ViewsStates, NothingSaidSaysWhatToDo) {
    Stage stage;
    const Snapshot s = fake::empty_conversation(fake::typical());
    for (const char* view : {"Overview", "Routing", "Attention", "Streams"}) {
        stage.draw(view, s);
        EXPECT_EQ(stage.text("empty"), "Nothing was read yet") << view;
        EXPECT_EQ(stage.is_drawn("overview/promise/Streams"), std::string(view) == "Overview");
    }
    for (const char* view : {"Cache", "Model"}) stage.draw(view, s);  // they have something to say without a token
}

TEST(ViewsStates, ALostRecordIsComputedAgain) {
    Stage stage;
    Snapshot s = fake::snapshot(fake::typical());
    s.trace = std::make_shared<Trace>();
    stage.cursor.token = s.timeline.tokens[10].ref;
    stage.draw("Routing", s);
    ASSERT_TRUE(stage.click("Routing", s, "Compute it again"));
    const auto* asked = stage.sink.last<RecomputeToken>();
    ASSERT_TRUE(asked);
    EXPECT_EQ(asked->token, s.timeline.tokens[10].ref);
    EXPECT_EQ(asked->probes & base_probes(), base_probes());
}

// Every picture of every view is written, with something in it.
TEST(ViewsStates, EverythingThatIsDrawnExports) {
    Stage stage;
    const Snapshot s = fake::snapshot(fake::typical());
    vitrine::test::TempFolder folder;
    std::set<std::string> all;
    for (const char* view : kViews) {
        stage.cursor.token = s.timeline.tokens[10].ref;
        stage.draw(view, s);
        for (const std::string& name : ui::exportables()) {
            all.insert(name);
            for (const ui::ExportFormat f : {ui::ExportFormat::png, ui::ExportFormat::svg, ui::ExportFormat::csv})
                if (f != ui::ExportFormat::png || name == "streams/sites" ||
                    name == "attention/shares")  // slow to make
                    ui::request_export(
                        name, f, folder.path() + "/" + std::to_string(all.size()) + "." + ui::export_extension(f));
        }
        stage.draw(view, s, 8);  // one request a widget and frame
        ui::wait_for_exports();
        for (const ui::ExportResult& r : ui::take_export_results()) {
            EXPECT_EQ(r.problem, "") << view;
            EXPECT_GT(std::filesystem::file_size(r.path), r.path.ends_with(".csv") ? 20u : 400u) << r.path;
        }
    }
    for (const char* name : {"streams/sites", "attention/shares", "routing/norms", "overview/cache", "streams/gain",
                             "overview/routing", "overview/attention", "routing/why", "model/memory"})
        EXPECT_TRUE(all.count(name)) << name;
}

// The line "now" of the Cache view stands at the cache's length, on both scales, and says so.
TEST(ViewsStates, NowStandsAtTheCachesLength) {
    Stage stage;
    Snapshot s = fake::snapshot(fake::typical());
    const float reach = 1 << 20;
    for (const bool is_log : {false, true}) {
        stage.draw("Cache", s);
        ASSERT_TRUE(stage.click("Cache", s, is_log ? "cache/scale/logarithmic" : "cache/scale/linear"));
        float from = 0, width = 0;  // of the axis, by two lengths
        for (const int64_t n : {int64_t{1} << 18, int64_t{1} << 20, int64_t{1} << 14, int64_t{300}}) {
            s.cache.n_tokens = n;
            stage.draw("Cache", s);
            const ui::Widget* now = ui::find_widget("cache/plot/line/now/" + std::to_string(n));
            ASSERT_TRUE(now) << n << (is_log ? ", logarithmic" : ", linear");
            EXPECT_EQ(now->number, static_cast<double>(n));
            const float share = is_log ? (std::log2(static_cast<float>(n)) - 4) / 16 : static_cast<float>(n) / reach,
                        quarter = is_log ? 14.0f / 16 : 0.25f;
            if (n == 1 << 18) {
                from = now->center().x;
            } else if (n == 1 << 20) {
                width = (now->center().x - from) / (1 - quarter);
                from -= width * quarter;
                EXPECT_GT(width, 200);
            } else {
                EXPECT_NEAR(now->center().x, from + width * share, 1.5f) << n;
            }
        }
        s.cache.n_tokens = 0;
        stage.draw("Cache", s);
        EXPECT_TRUE(ui::widget_names("cache/plot/line/now").empty());
    }
}

class ViewsSizes : public testing::TestWithParam<std::tuple<int, int, bool>> {};

TEST_P(ViewsSizes, NoTextIsCut) {
    const auto [width, height, is_dark] = GetParam();
    Stage stage(static_cast<float>(width), static_cast<float>(height), is_dark);
    for (const bool is_huge : {false, true}) {
        static const Snapshot typical = fake::snapshot(fake::typical()),
                              huge = fake::snapshot(fake::huge());  // a million tokens: once
        const Snapshot& s = is_huge ? huge : typical;
        stage.reset();
        stage.cursor.token = s.timeline.tokens[s.timeline.tokens.size() - 2].ref;
        stage.cursor.expert = 3, stage.cursor.entry = 2;
        for (const char* view : kViews)
            for (const int layer : {0, 4, 5}) {
                stage.cursor.layer = layer;
                stage.draw(view, s, 3);
                EXPECT_EQ(first_cut(), "") << view << ", layer " << layer << (is_huge ? ", huge" : "");
            }
    }
}
// The view's own area of windows of 1100, 1280 and 1920 pixels, and the wide one of presenter mode.
INSTANTIATE_TEST_SUITE_P(Areas, ViewsSizes,
                         testing::Values(std::make_tuple(700, 520, true), std::make_tuple(840, 640, true),
                                         std::make_tuple(840, 640, false), std::make_tuple(1260, 920, true)));

TEST(ViewsStates, BrokenNumbersAreDrawnAsBroken) {
    const fake::Shape shape = fake::typical();
    Snapshot s = fake::snapshot(shape);
    auto trace = std::make_shared<Trace>();
    const auto source = s.trace->get(s.timeline.branch, 300);
    ASSERT_TRUE(source);
    RecordBuilder b;
    b.begin(1);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (int layer = TokenRecord::kNoLayer; layer < shape.n_layers; ++layer)
        for (int p = 0; p < kProbeCount; ++p) {
            const auto probe = static_cast<Probe>(p);
            const auto f = source->floats(probe, layer);
            const auto i = source->ints(probe, layer);
            const std::vector<float> bad(f.data.size(), nan);
            const std::vector<int32_t> far(i.data.size(), 1 << 30);  // an index beyond everything
            if (!f.empty()) b.put(0, probe, layer, bad.data(), f.rows, f.cols);
            if (!i.empty()) b.put(0, probe, layer, far.data(), i.rows, i.cols);
        }
    trace->put(s.timeline.branch, 300, b.finish(0));
    s.trace = trace;
    Stage stage;
    stage.cursor.token = s.timeline.tokens[300].ref;
    for (const char* view : kViews)
        for (const int layer : {0, 4, 5}) {
            stage.cursor.layer = layer, stage.cursor.expert = 3, stage.cursor.entry = 2;
            stage.draw(view, s, 3);
        }
    stage.draw("Streams", s);
    EXPECT_TRUE(std::isnan(stage.number("streams/sigma2").value_or(0)));
}

TEST(ViewsStates, HoveringPreviewsAndChangesNothing) {
    const Snapshot s = fake::snapshot(fake::typical());
    Stage stage(840, 640);
    stage.cursor.token = s.timeline.tokens[300].ref;
    stage.cursor.layer = 4;
    for (const char* view : kViews) {
        stage.draw(view, s);
        std::map<std::string, ImVec2> before;
        for (const std::string& name : ui::widget_names()) before[name] = ui::find_widget(name)->min;
        const Cursor cursor = stage.cursor;
        for (float y = 20; y < 640; y += 60)
            for (float x = 20; x < 840; x += 60) stage.hover(view, s, x, y);
        stage.hover(view, s, -100, -100);
        EXPECT_EQ(stage.cursor.token, cursor.token) << view;
        EXPECT_EQ(stage.cursor.layer, cursor.layer) << view;
        EXPECT_EQ(stage.cursor.entry, cursor.entry) << view;
        EXPECT_EQ(stage.cursor.expert, cursor.expert) << view;
        for (const auto& [name, at] : before) {
            const ui::Widget* now = ui::find_widget(name);
            if (!now) continue;
            EXPECT_TRUE(now->min.x == at.x && now->min.y == at.y) << view << ": " << name << " moved";
        }
    }
}

// What stands below and beside a picture of numbers: names, and ticks within the values.
TEST(ViewsStates, AxesSayWhatTheyShow) {
    const Snapshot s = fake::snapshot(fake::typical());
    Stage stage(840, 640);
    stage.cursor.token = s.timeline.tokens[300].ref;
    stage.draw("Overview", s);
    EXPECT_EQ(stage.text("overview/routing/rows"), "layer");
    EXPECT_NE(stage.text("overview/routing/columns").find("expert"), std::string::npos);
    EXPECT_EQ(stage.text("overview/attention/rows"), "layer");
    EXPECT_EQ(stage.text("overview/attention/columns"), "share of attention");
    const auto expect_axis = [&](const std::string& bars) {
        double lo = 0, hi = 0;
        for (const auto& [i, v] : stage.numbers(bars + "/")) lo = std::min(lo, v), hi = std::max(hi, v);
        ASSERT_TRUE(stage.number(bars + "/axis/lo") && stage.number(bars + "/axis/hi")) << bars;
        EXPECT_GE(*stage.number(bars + "/axis/lo"), lo - (hi - lo) * 0.1) << bars;
        EXPECT_LE(*stage.number(bars + "/axis/hi"), hi + (hi - lo) * 0.1) << bars;
        EXPECT_GT(*stage.number(bars + "/axis/hi"), *stage.number(bars + "/axis/lo")) << bars;
    };
    stage.cursor.layer = 4;
    stage.draw("Routing", s);
    expect_axis("routing/load");
    stage.draw("Attention", s);
    expect_axis("attention/scores");
    stage.cursor.layer = 5;
    stage.draw("Attention", s);
    expect_axis("attention/blocks");
}

// Large type in a small window: tiles keep room for their axes and some rows, and the view scrolls.
TEST(ViewsStates, TilesStayTallEnough) {
    const Snapshot s = fake::snapshot(fake::typical());
    Stage stage(700, 260);
    stage.cursor.token = s.timeline.tokens[300].ref;
    stage.draw("Overview", s);
    for (const char* tile : {"Routing", "Attention", "Streams"}) {
        const ui::Widget* w = ui::find_widget(std::string("overview/") + tile);
        ASSERT_NE(w, nullptr) << tile;
        EXPECT_GE(w->max.y - w->min.y, 140) << tile;
    }
}

// A small window, or presenter mode: panes one below the other, each tall enough to be read.
TEST(ViewsStates, NarrowViewsStackTheirPanes) {
    const Snapshot s = fake::snapshot(fake::typical());
    Stage stage(600, 400);
    stage.cursor.token = s.timeline.tokens[300].ref;
    stage.cursor.layer = 4;
    const std::pair<const char*, const char*> wide[] = {
        {"Routing", "routing/map"}, {"Attention", "attention/scores"}, {"Cache", "cache/plot"}};
    for (const auto& [view, widget] : wide) {
        stage.draw(view, s, 3);
        const ui::Widget* w = ui::find_widget(widget);
        ASSERT_NE(w, nullptr) << widget;
        EXPECT_GE(w->max.x - w->min.x, 450) << widget;
        EXPECT_GE(w->max.y - w->min.y, 120) << widget;
    }
}

TEST(ViewsStates, TilesLeadToTheirViews) {
    const Snapshot s = fake::snapshot(fake::typical());
    Stage stage;
    stage.cursor.token = s.timeline.tokens[300].ref;
    for (const char* tile : kTiles) {
        stage.draw("Overview", s);
        ASSERT_TRUE(stage.click("Overview", s, std::string("overview/") + tile));
        EXPECT_EQ(stage.went_to, tile);
    }
}

TEST(ViewsStates, ClickingSelects) {
    const Snapshot s = fake::snapshot(fake::typical());
    Stage stage;
    stage.cursor.token = s.timeline.tokens[300].ref;
    stage.cursor.layer = 4;
    stage.draw("Routing", s);
    const auto expert = stage.number("routing/why/rank/1/expert");
    ASSERT_TRUE(expert);
    ASSERT_TRUE(stage.click("Routing", s, "routing/why/rank/1/expert"));
    EXPECT_EQ(stage.cursor.expert, *expert);
    stage.draw("Attention", s);
    ASSERT_TRUE(stage.click("Attention", s, "attention/shares/6/window"));
    EXPECT_EQ(stage.cursor.layer, 6);
    stage.draw("Attention", s);
    ASSERT_TRUE(stage.click("Attention", s, "attention/scores/2"));
    stage.draw("Attention", s);
    EXPECT_EQ(stage.number("attention/entry/rank"), 3);
    ASSERT_TRUE(stage.click("Attention", s, "attention/text/40"));
    EXPECT_EQ(stage.cursor.token, s.timeline.tokens[40].ref);
    EXPECT_FALSE(stage.cursor.is_live);
}

// Cards are not empty before something is clicked: the heaviest expert and entry are shown, and nothing is selected.
TEST(ViewsStates, CardsShowTheHeaviest) {
    const Snapshot s = fake::snapshot(fake::typical());
    Stage stage;
    stage.cursor.token = s.timeline.tokens[300].ref;
    for (const int layer : {4, 5}) {  // CSA and HCA
        stage.cursor.layer = layer;
        stage.draw("Routing", s);
        EXPECT_TRUE(stage.is_drawn("routing/card/hint"));
        EXPECT_TRUE(stage.number("routing/card/count"));
        stage.draw("Attention", s);
        EXPECT_TRUE(stage.is_drawn("attention/entry/hint"));
        const auto mass = stage.number("attention/entry/mass");
        ASSERT_TRUE(mass) << layer;
        for (const auto& [e, m] : stage.numbers(layer == 5 ? "attention/blocks/" : "attention/outlined/"))
            EXPECT_LE(m, *mass) << e;
    }
    EXPECT_EQ(stage.cursor.expert, -1);
    EXPECT_EQ(stage.cursor.entry, -1);
}

TEST(ViewsStates, AHistogramIsMadeOnDemand) {
    const Snapshot s = fake::snapshot(fake::typical());
    Stage stage;
    stage.draw("Model", s);
    const std::string name = s.model->tensors.at(0).name;
    ASSERT_TRUE(stage.click("Model", s, "model/tensors/" + name + "/name"));
    if (!s.histograms.count(name)) {
        ASSERT_TRUE(stage.sink.last<MakeHistogram>());
        EXPECT_EQ(stage.sink.last<MakeHistogram>()->tensor, name);
    }
}

TEST(ViewsStates, HelpHasAllItsParts) {
    for (const auto& p : make_panels()) {
        const Help& h = p->help();
        for (const char* part : {h.shows, h.how_to_read, h.formula, h.source, h.try_this})
            EXPECT_TRUE(part && *part) << p->name();
    }
}

}  // namespace
}  // namespace vitrine::viz::test
