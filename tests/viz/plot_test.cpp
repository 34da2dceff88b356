// The line plot and exports: what is drawn is the data, pictures and tables say the same.
#include <gtest/gtest.h>
#include <stb_image.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "tests/support/temp_folder.h"
#include "viz/fonts.h"
#include "viz/gl.h"
#include "viz/imgui_compat.h"
#include "viz/theme.h"
#include "viz/widgets/axis.h"
#include "viz/widgets/bars.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/export.h"
#include "viz/widgets/heatmap.h"
#include "viz/widgets/line_plot.h"
#include "viz/widgets/registry.h"

namespace vitrine::viz {
namespace {

using ui::Series;

class Plot : public ::testing::Test {
  protected:
    void SetUp() override {
        set_gl_backend(GlBackend::null);
        ImGui::CreateContext();
        ImGuiIO& io = ImGui::GetIO();
        io.IniFilename = nullptr;
        io.DeltaTime = 1.0f / 60;
        null_platform_init();
        set_theme(make_theme(true), 1);
        apply_style(theme(), 1);
        fonts_ = std::make_unique<Fonts>();
        fonts_->set_scale(1);
        fonts_->rebuild_if_needed();
        ui::registry_enable(true);
        ui::registry_clear();
        spec.id = "test/plot";
        feed_mouse(-10, -10);
    }
    void TearDown() override {
        ui::wait_for_exports();
        ui::take_export_results();
        fonts_.reset();
        ImGui::DestroyContext();
        ui::registry_clear();
    }
    void frame(const std::function<void()>& draw) {
        ImGui::GetIO().DisplaySize = {800, 500};
        ImGui::NewFrame();
        ImGui::SetNextWindowPos({0, 0});
        ImGui::SetNextWindowSize({800, 500});
        ImGui::Begin("stage", nullptr,
                     ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_NoSavedSettings | ImGuiWindowFlags_NoMove);
        draw();
        ImGui::End();
        ImGui::Render();
        null_render();
    }
    void draw(int n = 2) {
        spec.series = series;
        for (int i = 0; i < n; ++i) frame([&] { result = plot.draw(spec); });
    }
    double number(const std::string& name) {
        const ui::Widget* w = ui::find_widget("test/plot/" + name);
        EXPECT_TRUE(w && w->has_number) << name;
        return w ? w->number : NAN;
    }
    ImVec2 middle() { return ui::find_widget("test/plot/area")->center(); }
    std::string exported(ui::ExportFormat f) {
        return exported(f, [&] { result = plot.draw(spec); });
    }
    std::string exported(ui::ExportFormat f, const std::function<void()>& draw) {
        const std::string path = folder_.path() + "/out." + ui::export_extension(f);
        ui::request_export("test/plot", f, path);
        frame(draw);
        ui::wait_for_exports();
        const auto results = ui::take_export_results();
        EXPECT_EQ(results.size(), 1u);
        for (const auto& r : results) EXPECT_EQ(r.problem, "");
        std::ifstream in(path, std::ios::binary);
        std::stringstream all;
        all << in.rdbuf();
        return all.str();
    }
    // The points of a series' path in the SVG.
    std::vector<ImVec2> path(const std::string& svg, const std::string& name, int stretch = 0) {
        size_t mark = svg.find("data-series=\"" + name + "\"");
        for (; stretch > 0 && mark != std::string::npos; --stretch)
            mark = svg.find("data-series=\"" + name + "\"", mark + 1);
        EXPECT_NE(mark, std::string::npos) << name;
        if (mark == std::string::npos) return {};
        const size_t begin = svg.rfind("d=\"M", mark) + 4;
        std::stringstream in(svg.substr(begin, svg.find('"', begin) - begin));
        std::vector<ImVec2> out;
        for (ImVec2 p; in >> p.x >> p.y;) {
            out.push_back(p);
            char l;
            in >> l;
        }
        return out;
    }
    // The axes as registered, in the coordinates of the SVG (whose clip rectangle is the area and 3 pixels around it).
    void axes(const std::string& svg, ui::Axis& x, ui::Axis& y) {
        float cx = 0, cy = 0, w = 0, h = 0;
        const size_t at = svg.find("<clipPath");
        ASSERT_NE(at, std::string::npos);
        ASSERT_EQ(std::sscanf(svg.c_str() + svg.find("<rect", at), "<rect x=\"%f\" y=\"%f\" width=\"%f\" height=\"%f\"",
                              &cx, &cy, &w, &h),
                  4);
        x = {number("x_lo"), number("x_hi"), spec.is_log_x, cx + 3, cx + w - 3};
        y = {number("y_lo"), number("y_hi"), spec.is_log_y, cy + h - 3, cy + 3};
    }
    void expect_path_is(const std::vector<ImVec2>& points, const std::vector<double>& xs, const std::vector<double>& ys,
                        const ui::Axis& x, const ui::Axis& y) {
        ASSERT_EQ(points.size(), ys.size());
        for (size_t i = 0; i < ys.size(); ++i) {
            EXPECT_NEAR(points[i].x, x.pixel(xs[i]), 0.01) << i;
            EXPECT_NEAR(points[i].y, y.pixel(ys[i]), 0.01) << i;
        }
    }

    ui::LinePlot plot;
    ui::PlotSpec spec;
    ui::PlotResult result;
    std::vector<Series> series;
    test::TempFolder folder_;
    std::unique_ptr<Fonts> fonts_;
};

std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
    std::vector<std::vector<std::string>> rows;
    std::stringstream in(text);
    for (std::string line; std::getline(in, line);) {
        rows.emplace_back(1);
        bool is_quoted = false;
        for (const char c : line) {
            if (c == '"')
                is_quoted = !is_quoted;
            else if (c == ',' && !is_quoted)
                rows.back().emplace_back();
            else
                rows.back().back() += c;
        }
    }
    return rows;
}

TEST_F(Plot, draws_its_data_on_both_kinds_of_axes) {
    const std::vector<double> xs = {1, 2, 5, 40, 300, 1000}, ys = {0.5, 30, 2.5, 1e-3, 7, 900};
    for (const bool is_log : {false, true}) {
        plot = {};
        spec.is_log_x = spec.is_log_y = is_log;
        series = {{.name = "loss", .color = theme().csa, .x = xs, .y = ys}};
        draw();
        EXPECT_EQ(number("drawn/loss"), 6);
        EXPECT_EQ(number("x_lo"), 1);
        EXPECT_LE(number("y_lo"), 1e-3);
        EXPECT_GE(number("y_hi"), 900);
        const std::string svg = exported(ui::ExportFormat::svg);
        ui::Axis x, y;
        axes(svg, x, y);
        expect_path_is(path(svg, "loss"), xs, ys, x, y);
    }
}

TEST_F(Plot, a_gap_and_a_value_that_a_logarithm_lacks_break_the_curve) {
    const std::vector<double> ys = {1, 2, NAN, 3, 4, 0, 5, 6};
    spec.is_log_y = true;
    series = {{.name = "a", .color = theme().csa, .y = ys}};
    draw();
    EXPECT_EQ(number("drawn/a"), 6);
    const std::string svg = exported(ui::ExportFormat::svg);
    size_t n = 0;
    for (size_t at = 0; (at = svg.find("data-series=\"a\"", at)) != std::string::npos; ++at) ++n;
    EXPECT_EQ(n, 3u);
}

TEST_F(Plot, labels_below_bars_never_touch) {
    ui::BarsSpec bars;
    bars.id = "test/plot";
    const std::vector<float> values(128, 1.0f);
    bars.values = values, bars.height = 200;
    bars.label = [](int i) { return std::to_string(234'567 + 7 * i); };
    float label_width = 0;
    for (bars.width = 120; bars.width < 780; bars.width += 9) {
        const std::string svg = exported(ui::ExportFormat::svg, [&] {
            ui::vertical_bars(bars);
            const ui::FontScope mono(Font::mono_small);
            label_width = ImGui::CalcTextSize("234567").x;
        });
        std::vector<float> begins;
        for (size_t at = 0; (at = svg.find("<text x=\"", at + 1)) != std::string::npos;)
            if (svg.compare(svg.find('>', at) + 1, 3, "234") == 0 || svg.compare(svg.find('>', at) + 1, 3, "235") == 0)
                begins.push_back(std::stof(svg.substr(at + 9)));
        ASSERT_FALSE(begins.empty());
        for (size_t i = 1; i < begins.size(); ++i)
            EXPECT_GE(begins[i] - begins[i - 1], label_width + 4.9f) << bars.width;
    }
}

TEST_F(Plot, a_million_points_keep_their_peaks_and_grow) {
    std::vector<double> ys(1'000'000);
    for (size_t i = 0; i < ys.size(); ++i) ys[i] = std::sin(static_cast<double>(i) * 1e-4);
    ys[500'003] = 40, ys[712'345] = -25;
    for (const uint64_t revision : {0u, 1u}) {
        plot = {};
        series = {{.name = "a", .color = theme().csa, .y = std::span(ys).first(600'000), .revision = revision}};
        draw();
        series[0].y = ys;  // appended
        draw();
        EXPECT_LT(number("drawn/a"), 2 * 800);
        const std::string svg = exported(ui::ExportFormat::svg);
        ui::Axis x, y;
        axes(svg, x, y);
        float top = 1e9f, bottom = -1e9f, at_top = 0;
        for (const ImVec2 p : path(svg, "a")) {
            if (p.y < top) top = p.y, at_top = p.x;
            bottom = std::max(bottom, p.y);
        }
        EXPECT_NEAR(top, y.pixel(40), 0.01);
        EXPECT_NEAR(bottom, y.pixel(-25), 0.01);
        EXPECT_NEAR(at_top, x.pixel(500'003), 1);
    }
}

TEST(Pyramid, gives_the_extremes_of_any_range) {
    std::mt19937 random(7);
    std::vector<double> y(5000);
    for (double& v : y) v = random() % 17 == 0 ? NAN : static_cast<double>(random() % 2000) - 1000;
    ui::MinMaxPyramid p;
    for (size_t n : {1u, 7u, 8u, 9u, 513u, 4096u, 5000u}) {
        p.append(std::span(y).first(n));
        for (int k = 0; k < 300; ++k) {
            size_t a = random() % (n + 1), b = random() % (n + 1);
            if (a > b) std::swap(a, b);
            ui::Extremes want;
            for (size_t i = a; i < b; ++i) want.add(y[i]);
            const ui::Extremes got = p.query(std::span(y).first(n), a, b);
            ASSERT_EQ(got.n, want.n) << n << " " << a << " " << b;
            ASSERT_EQ(got.min, want.min);
            ASSERT_EQ(got.max, want.max);
            ASSERT_EQ(got.min_positive, want.min_positive);
        }
    }
}

TEST_F(Plot, smoothing_is_the_average_it_says) {
    const std::vector<double> ys = {4, 8, NAN, 2, 6, 1};
    spec.smoothing = 0.9;
    series = {{.name = "loss", .color = theme().csa, .y = ys}, {.name = "other", .color = theme().hca, .y = ys}};
    draw();
    EXPECT_EQ(ui::find_widget("test/plot/legend/loss")->text, "loss (smoothed 0.9)");
    // Weights 0.9^(age), normalised: computed without the recursion.
    std::vector<double> xs, want;
    for (size_t i = 0; i < ys.size(); ++i) {
        if (std::isnan(ys[i])) continue;
        double sum = 0, weight = 0, w = 1;
        for (size_t k = i + 1; k-- > 0;) {
            if (std::isnan(ys[k])) continue;
            sum += w * ys[k], weight += w, w *= 0.9;
        }
        xs.push_back(static_cast<double>(i)), want.push_back(sum / weight);
    }
    const std::string svg = exported(ui::ExportFormat::svg);
    ui::Axis x, y;
    axes(svg, x, y);
    const auto first = path(svg, "loss smoothed");  // up to the gap
    expect_path_is(first, {xs.begin(), xs.begin() + 2}, {want.begin(), want.begin() + 2}, x, y);
    expect_path_is(path(svg, "loss"), {0, 1}, {4, 8}, x, y);  // the raw line is there too
    // After the gap.
    expect_path_is(path(svg, "loss smoothed", 1), {xs.begin() + 2, xs.end()}, {want.begin() + 2, want.end()}, x, y);
}

TEST_F(Plot, legend_hides_and_shows) {
    const std::vector<double> a = {1, 2, 3}, b = {100, 200, 300};
    series = {{.name = "a", .color = theme().csa, .y = a}, {.name = "b", .color = theme().hca, .y = b}};
    draw();
    EXPECT_EQ(number("legend/b"), 1);
    EXPECT_GE(number("y_hi"), 300);
    const ImVec2 at = ui::find_widget("test/plot/legend/b")->center();
    feed_mouse(at.x, at.y);
    draw();
    feed_button(0, true);
    draw(1);
    feed_button(0, false);
    draw(3);
    EXPECT_EQ(number("legend/b"), 0);
    EXPECT_FALSE(ui::find_widget("test/plot/drawn/b"));
    EXPECT_LE(number("y_hi"), 4);  // the axis is of what is shown
}

TEST_F(Plot, wheel_zooms_about_the_mouse_drag_pans_double_click_fits) {
    std::vector<double> ys(1000);
    for (size_t i = 0; i < ys.size(); ++i) ys[i] = static_cast<double>(i);
    series = {{.name = "a", .color = theme().csa, .y = ys}};
    draw();
    const double lo = number("x_lo"), hi = number("x_hi");
    const ImVec2 at = middle();
    feed_mouse(at.x, at.y);
    draw();
    const double under = result.x;
    feed_wheel(3);
    draw();
    EXPECT_LT(number("x_hi") - number("x_lo"), 0.7 * (hi - lo));
    EXPECT_NEAR(result.x, under, 1e-6 * (hi - lo));
    EXPECT_NEAR(number("crosshair/a"), ys[static_cast<size_t>(std::lround(result.x))], 1e-9);
    const double before = number("x_lo"), span = number("x_hi") - before;
    feed_button(0, true);
    draw(1);
    feed_mouse(at.x + 50, at.y);
    draw(2);
    feed_button(0, false);
    draw(1);
    EXPECT_FALSE(result.is_clicked);
    draw(1);
    const ui::Widget* area = ui::find_widget("test/plot/area");
    EXPECT_NEAR(number("x_lo"), before - span * 50 / (area->max.x - area->min.x), span * 1e-4);
    for (int i = 0; i < 2; ++i) {
        feed_button(0, true);
        draw(1);
        feed_button(0, false);
        draw(1);
    }
    draw();
    EXPECT_EQ(number("x_lo"), lo);
    EXPECT_EQ(number("x_hi"), hi);
}

TEST_F(Plot, csv_reads_back_the_same_bits) {
    std::mt19937_64 random(3);
    std::vector<double> x1, y1, x2, y2, low, high;
    for (int i = 0; i < 200; ++i) {
        x1.push_back(i * 2), x2.push_back(i * 3);
        y1.push_back(std::ldexp(static_cast<double>(random() >> 11), static_cast<int>(random() % 200) - 150));
        y2.push_back(i == 50 ? NAN : 1.0 / (i + 3));
        low.push_back(y1.back() * 0.9), high.push_back(y1.back() * 1.1);
    }
    const std::vector<double> seed0(y1.begin(), y1.begin() + 120), seed1 = high;
    const std::vector<std::span<const double>> seeds = {seed0, seed1};
    series = {{.name = "loss, train",
               .color = theme().csa,
               .x = x1,
               .y = y1,
               .band_lo = low,
               .band_hi = high,
               .seeds = seeds},
              {.name = "eval", .color = theme().hca, .x = x2, .y = y2}};
    spec.x_label = "step";
    draw();
    const auto rows = parse_csv(exported(ui::ExportFormat::csv));
    ASSERT_EQ(rows[0], (std::vector<std::string>{"step", "loss, train", "loss, train low", "loss, train high",
                                                 "loss, train seed 0", "loss, train seed 1", "eval"}));
    size_t a = 0, b = 0;
    for (size_t r = 1; r < rows.size(); ++r) {
        ASSERT_EQ(rows[r].size(), 7u);
        const double x = std::stod(rows[r][0]);
        if (!rows[r][1].empty()) {
            EXPECT_EQ(x, x1[a]);
            EXPECT_EQ(std::stod(rows[r][1]), y1[a]);
            EXPECT_EQ(std::stod(rows[r][2]), low[a]);
            EXPECT_EQ(std::stod(rows[r][3]), high[a]);
            EXPECT_EQ(rows[r][4].empty(), a >= 120);
            EXPECT_EQ(std::stod(rows[r][5]), seed1[a++]);
        }
        if (!rows[r][6].empty()) {
            EXPECT_EQ(x, x2[b]);
            if (b == 50)
                EXPECT_TRUE(std::isnan(std::stod(rows[r][6])));
            else
                EXPECT_EQ(std::stod(rows[r][6]), y2[b]);
            ++b;
        }
    }
    EXPECT_EQ(a, 200u);
    EXPECT_EQ(b, 200u);
}

TEST_F(Plot, band_and_seeds_are_drawn_where_they_are) {
    const std::vector<double> mean = {2, 3, 4}, low = {1, 2, 3.5}, high = {3, 5, 4.5};
    const std::vector<std::span<const double>> seeds = {low, high};
    series = {{.name = "m", .color = theme().csa, .y = mean, .band_lo = low, .band_hi = high, .seeds = seeds}};
    draw();
    const std::string svg = exported(ui::ExportFormat::svg);
    ui::Axis x, y;
    axes(svg, x, y);
    expect_path_is(path(svg, "m band"), {0, 1, 2, 2, 1, 0}, {3, 5, 4.5, 3.5, 2, 1}, x, y);
    expect_path_is(path(svg, "m seed 1"), {0, 1, 2}, high, x, y);
}

TEST_F(Plot, png_is_twice_the_size_and_shows_the_curve) {
    const std::vector<double> ys = {0, 0, 0, 0};
    spec.width = 400, spec.height = 220;
    spec.y_lo = -1, spec.y_hi = 1;
    series = {{.name = "\xE6\x8D\x9F\xE5\xA4\xB1", .color = IM_COL32(255, 0, 0, 255), .y = ys},
              {.name = "b", .color = theme().hca, .y = {}}};
    ui::set_export_context({".", {"a model", "a prompt"}});
    draw();
    const std::string svg = exported(ui::ExportFormat::svg), png = exported(ui::ExportFormat::png);
    float w = 0, h = 0;
    ASSERT_EQ(std::sscanf(svg.c_str() + svg.find("<svg"),
                          "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%f\" height=\"%f\"", &w, &h),
              2);
    int width = 0, height = 0, channels = 0;
    unsigned char* p = stbi_load_from_memory(reinterpret_cast<const unsigned char*>(png.data()),
                                             static_cast<int>(png.size()), &width, &height, &channels, 4);
    ASSERT_TRUE(p);
    EXPECT_EQ(width, static_cast<int>(std::lround(2 * w)));
    EXPECT_EQ(height, static_cast<int>(std::lround(2 * h)));
    EXPECT_EQ(width, 2 * (400 + 28));
    // The curve lies where the SVG has it, in its colour.
    const ImVec2 at = path(svg, "\xE6\x8D\x9F\xE5\xA4\xB1")[1];
    const unsigned char* c = p + (static_cast<size_t>(at.y * 2) * width + static_cast<size_t>(at.x * 2)) * 4;
    EXPECT_GT(c[0], 230);
    EXPECT_LT(c[1], 40);
    stbi_image_free(p);
    EXPECT_NE(svg.find(">a prompt<"), std::string::npos);
    EXPECT_NE(svg.find(">\xE6\x8D\x9F\xE5\xA4\xB1<"), std::string::npos);
    EXPECT_EQ(svg.find("\xEF\xBF\xBD"), std::string::npos);
}

TEST_F(Plot, heat_maps_export_their_cells) {
    const std::vector<float> values = {0.1f, 1.0f / 3, -7e-20f, 4, 5, 6.25f};
    ui::Heatmap map;
    const auto draw_map = [&](ui::ExportFormat f) {
        const std::string path = folder_.path() + "/map." + ui::export_extension(f);
        ui::request_export("test/map", f, path);
        frame([&] {
            ui::HeatmapSpec s;
            s.id = "test/map", s.values = values, s.rows = 2, s.cols = 3, s.lo = s.hi = 0;
            s.row_name = "layer", s.col_name = "expert";
            map.draw(s);
        });
        ui::wait_for_exports();
        for (const auto& r : ui::take_export_results()) EXPECT_EQ(r.problem, "");
        std::ifstream in(path, std::ios::binary);
        std::stringstream all;
        all << in.rdbuf();
        return all.str();
    };
    const auto rows = parse_csv(draw_map(ui::ExportFormat::csv));
    ASSERT_EQ(rows.size(), 3u);
    EXPECT_EQ(rows[0], (std::vector<std::string>{"layer \\ expert", "0", "1", "2"}));
    for (int r = 0; r < 2; ++r)
        for (int c = 0; c < 3; ++c) EXPECT_EQ(std::stof(rows[r + 1][c + 1]), values[static_cast<size_t>(r * 3 + c)]);
    const std::string svg = draw_map(ui::ExportFormat::svg);
    for (const float v : values) {
        const ImU32 color = map_color(ColorMap::magnitude, map_position(ColorMap::magnitude, v, -7e-20f, 6.25f));
        char fill[32];
        std::snprintf(fill, sizeof fill, "#%02x%02x%02x", color & 255, (color >> 8) & 255, (color >> 16) & 255);
        EXPECT_NE(svg.find(fill), std::string::npos) << v;
    }
}

TEST_F(Plot, a_file_that_cannot_be_written_is_said) {
    const std::vector<double> ys = {1, 2};
    series = {{.name = "a", .color = theme().csa, .y = ys}};
    ui::request_export("test/plot", ui::ExportFormat::csv, "/proc/none/x.csv");
    draw(1);
    ui::wait_for_exports();
    const auto results = ui::take_export_results();
    ASSERT_EQ(results.size(), 1u);
    EXPECT_NE(results[0].problem.find("/proc/none"), std::string::npos) << results[0].problem;
}

TEST_F(Plot, linked_plots_zoom_and_fit_their_x_axis_together) {
    const std::vector<double> y = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    series = {{"a", 0xff0000ff, {}, y}};
    ui::LinkedX x;
    ui::LinePlot other;
    ui::PlotSpec second;
    second.id = "test/other", second.linked_x = spec.linked_x = &x;
    spec.height = second.height = 200;
    const auto both = [&](int n) {
        for (int i = 0; i < n; ++i) frame([&] {
                spec.series = second.series = series;
                result = plot.draw(spec);
                other.draw(second);
            });
    };
    const auto of_other = [](const char* name) { return ui::find_widget(std::string("test/other/") + name)->number; };
    both(2);
    EXPECT_EQ(of_other("x_hi"), number("x_hi"));
    feed_mouse(middle().x, middle().y);
    both(2);
    feed_wheel(3);
    both(3);
    EXPECT_GT(number("x_lo"), 0);
    EXPECT_LT(number("x_hi"), 9);
    EXPECT_EQ(of_other("x_lo"), number("x_lo"));
    EXPECT_EQ(of_other("x_hi"), number("x_hi"));
    EXPECT_LT(number("y_hi") - number("y_lo"), of_other("y_hi") - of_other("y_lo")) << "y stays each plot's own";
    // Fitting the other one fits both, in both directions.
    const ImVec2 there = ui::find_widget("test/other/area")->center();
    feed_mouse(there.x, there.y);
    both(2);
    for (int i = 0; i < 2; ++i) feed_button(0, true), both(1), feed_button(0, false), both(1);
    both(2);
    EXPECT_EQ(number("x_lo"), 0);
    EXPECT_EQ(number("x_hi"), 9);
    EXPECT_EQ(number("y_hi"), of_other("y_hi"));
}

TEST_F(Plot, words_of_close_lines_do_not_cover_each_other) {
    const std::vector<double> y = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    series = {{"a", 0xff0000ff, {}, y}};
    const std::vector<ui::Line> lines = {{5, "spike", 0, true}, {5.05, "spike", 0, true}, {8, "alarm", 0, true}};
    spec.lines = lines;
    draw();
    const std::string svg = exported(ui::ExportFormat::svg);
    size_t n = 0;
    for (size_t at = svg.find(">spike<"); at != std::string::npos; at = svg.find(">spike<", at + 1)) ++n;
    EXPECT_EQ(n, 1u);
    EXPECT_NE(svg.find(">alarm<"), std::string::npos);
    EXPECT_EQ(number("line/spike/5"), 5);
}

}  // namespace
}  // namespace vitrine::viz
