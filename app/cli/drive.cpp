// vitrine drive: the real program, run from a script.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <thread>

#include "app/cli/common.h"
#include "app/cli/script.h"
#include "app/lab/shipped.h"
#include "app/paths.h"
#include "app/workbench.h"
#include "engine/base/error.h"
#include "engine/base/reader.h"
#include "engine/infer/sampler.h"
#include "viz/text_util.h"
#include "viz/widgets/registry.h"

namespace vitrine::cli {
namespace {
using Clock = std::chrono::steady_clock;
namespace ui = viz::ui;

constexpr auto kLongestWait = std::chrono::seconds(600);
constexpr int kFramesToAppear = 30;  // what a step caused may be drawn a little later

class Drive {
  public:
    explicit Drive(Workbench& w) : w_(w), driver_(w.shell().input(), [this] { return frame(); }) {}

    // "" or why the step failed.
    std::string run(const Step& s) {
        if (s.verb == "type") return type(s.rest);
        if (s.verb == "key") return driver_.key(s.rest);
        if (s.verb == "click") return driver_.click(s.rest);
        if (s.verb == "hover") return driver_.hover(s.rest);
        if (s.verb == "token") return select_token(static_cast<size_t>(s.number));
        if (s.verb == "layer") return select_layer(static_cast<int>(s.number));
        if (s.verb == "view") return show(s.rest);
        if (s.verb == "menu") return driver_.click(s.rest, 1);
        if (s.verb == "labels") return labels(s.rest);
        if (s.verb == "open") return open(s.rest);
        if (s.verb == "set") return set(s);
        if (s.verb == "pace") return pace(s.rest == "real");
        if (s.verb == "frames") return measure(static_cast<int>(s.number));
        if (s.verb == "wait") return s.number < 0 ? wait_idle() : wait_seconds(s.number);
        if (s.verb == "expect") return expect(s.rest);
        if (s.verb == "expect-value") return expect_value(s);
        return shot(s.rest);
    }

  private:
    bool frame() {
        ++n_frames_;
        // Without a display nothing else slows the loop down.
        if (!is_real_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return w_.frame();
    }

    // real: frames wait for a reason to draw, as they do for a user. Going back to fast prints how many were drawn
    // since, what that cost, and how fast the last answer came.
    std::string pace(bool is_real) {
        const double seconds = std::chrono::duration<double>(Clock::now() - paced_at_).count();
        const double cpu = static_cast<double>(std::clock() - cpu_at_) / CLOCKS_PER_SEC;
        if (is_real_ && !is_real && seconds > 0) {
            const double speed = w_.shell().snapshot().meters.tokens_per_s;
            std::printf(
                "%d frames in %.1f s (%.1f a second), %.2f s of processor time (%.1f %% of a core), last answer %.1f "
                "tokens/s\n",
                n_frames_, seconds, n_frames_ / seconds, cpu, 100 * cpu / seconds, speed);
            std::fflush(stdout);
        }
        is_real_ = is_real;
        alarm_ = {};  // ends the one before
        if (is_real)  // a frame a second: a script asks between frames whether its step is done
            alarm_ = std::jthread([this](std::stop_token stop) {
                for (int i = 1; !stop.stop_requested(); ++i) {
                    std::this_thread::sleep_for(std::chrono::milliseconds(50));
                    if (i % 20 == 0) w_.shell().wake();
                }
            });
        w_.shell().set_time_step(is_real ? 0 : 1.0 / 60);
        n_frames_ = 0, paced_at_ = Clock::now(), cpu_at_ = std::clock();
        return "";
    }

    // Times n frames of the view that is shown, each until its pixels are there, and prints the figures.
    std::string measure(int n) {
        driver_.frames(5);
        ui::registry_enable(false);  // a script's bookkeeping is not the window's
        std::vector<double> ms;
        for (int i = 0; i < n; ++i) {
            const auto begin = Clock::now();
            if (!w_.frame()) return "the window was closed";
            w_.shell().finish();
            ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
        }
        ui::registry_enable(true);
        if (ms.empty()) return "";
        std::sort(ms.begin(), ms.end());
        const auto at = [&](double q) { return ms[static_cast<size_t>(q * static_cast<double>(ms.size() - 1))]; };
        const viz::Desk& desk = w_.shell().workspace().desk();
        std::printf("%-10s %4d frames: p50 %.1f ms, p95 %.1f ms, longest %.1f ms\n", desk.panels[desk.panel]->name(), n,
                    at(0.5), at(0.95), ms.back());
        std::fflush(stdout);
        return "";
    }

    std::string type(const std::string& text) {
        driver_.frames(2);
        if (driver_.type(text).empty()) return "";
        w_.shell().workspace().desk().wants_input_focus = true;  // nothing has the focus: a message is meant
        driver_.frames(3);
        return driver_.type(text);
    }

    std::string select_token(size_t n) {
        const auto& tokens = w_.shell().snapshot().timeline.tokens;
        if (n >= tokens.size()) return "there are " + std::to_string(tokens.size()) + " tokens in the timeline";
        w_.shell().workspace().desk().select(tokens[n].ref);
        driver_.frames(3);
        return "";
    }

    std::string select_layer(int n) {
        const auto& model = w_.shell().snapshot().model;
        if (!model || n >= model->config.n_layers())
            return "the model has " + std::to_string(model ? model->config.n_layers() : 0) + " layers";
        w_.shell().workspace().desk().cursor.layer = n;
        driver_.frames(3);
        return "";
    }

    std::string show(const std::string& name) {
        if (!w_.shell().workspace().show_panel(name)) return "there is no such view";
        driver_.frames(3);
        return "";
    }

    // Sampling and mode, as the dialog sets them.
    std::string set(const Step& s) {
        // A model that arrives brings its own sampling.
        if (w_.shell().snapshot().is_loading)
            if (const std::string problem = wait_idle(); !problem.empty()) return problem;
        viz::Settings& settings = w_.shell().settings();
        if (s.label == "mode") {
            for (const Mode m : {Mode::non_think, Mode::high, Mode::max})
                if (s.text == mode_name(m)) settings.mode = m;
            driver_.frames(2);
            return "";
        }
        Sampling next = settings.sampling;
        const bool is_whole = s.number >= 0 && s.number == std::floor(s.number) && s.number < 9e15;
        const bool is_count = s.label == "top-k" || s.label == "seed" || s.label == "max-new-tokens";
        if (is_count && (!is_whole || (s.label != "seed" && s.number > INT32_MAX)))
            return "expected a whole number from 0";
        if (s.label == "temperature") next.temperature = s.number;
        if (s.label == "top-k") next.top_k = static_cast<int>(s.number);
        if (s.label == "top-p") next.top_p = s.number;
        if (s.label == "min-p") next.min_p = s.number;
        if (s.label == "repetition-penalty") next.repetition_penalty = s.number;
        if (s.label == "seed") next.seed = static_cast<uint64_t>(s.number);
        if (s.label == "max-new-tokens") next.max_new_tokens = static_cast<int>(s.number);
        const auto& model = w_.shell().snapshot().model;
        const std::vector<Issue> issues = validate(next, model ? model->config.vocab_size : INT32_MAX);
        if (!issues.empty()) return issues.front().to_string();
        settings.sampling = next;
        driver_.frames(2);
        return "";
    }

    std::string wait_idle() {
        const auto until = Clock::now() + kLongestWait;
        // A few frames more: the last reports are applied and drawn.
        for (int n_idle = 0; n_idle < (is_real_ ? 1 : 5); n_idle = w_.is_idle() ? n_idle + 1 : 0) {
            if (!frame()) return "the window was closed";
            if (Clock::now() > until) return "still busy after 600 s";
        }
        return "";
    }

    std::string wait_seconds(double seconds) {
        const auto until =
            Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
        do
            if (!frame()) return "the window was closed";
        while (Clock::now() < until);
        return "";
    }

    std::string expect(const std::string& text) {
        for (int i = 0; i < kFramesToAppear; ++i) {
            if (ui::is_text_shown(text)) return "";
            if (!frame()) return "the window was closed";
        }
        return "this text is not shown";
    }

    std::string expect_value(const Step& s) {
        viz::Label label;
        double shown = 0;
        for (int i = 0; i < kFramesToAppear; ++i) {
            label = viz::find_label(s.label, true);
            if (!label.name.empty()) shown = ui::find_widget(label.name)->number;
            if (!label.name.empty() && std::abs(shown - s.value) <= s.tolerance) return "";
            if (!frame()) return "the window was closed";
        }
        if (label.name.empty()) return label.problem;
        char b[96];
        std::snprintf(b, sizeof b, "%.9g is shown, expected %.9g ± %.3g", shown, s.value, s.tolerance);
        return b;
    }

    // What click, hover and expect-value can name now.
    std::string labels(const std::string& text) {
        driver_.frames(2);
        for (const std::string& name : ui::widget_names()) {
            const ui::Widget* w = ui::find_widget(name);
            if (!viz::contains_folded(name, text) && !viz::contains_folded(w->label, text)) continue;
            const std::string words = w->has_number ? number_text(w->number) : escaped(w->text, 100);
            std::printf("%s%s%s\n", escaped(name, 200).c_str(), w->has_number ? " = " : "  ", words.c_str());
        }
        std::fflush(stdout);
        return "";
    }
    static std::string number_text(double v) {
        char b[32];
        std::snprintf(b, sizeof b, "%.9g", v);
        return b;
    }

    // The model is the folder's, or why it was not opened.
    std::string open(const std::string& folder) {
        const size_t n_before = w_.shell().snapshot().notices.size();
        if (!w_.worker().send(LoadModel{folder})) return "the queue of commands is full";
        if (const std::string problem = wait_idle(); !problem.empty()) return problem;
        const viz::Snapshot& s = w_.shell().snapshot();
        if (s.model && is_same_place(s.model->folder, folder)) return "";
        for (size_t i = s.notices.size(); i > std::min(n_before, s.notices.size()); --i)
            if (s.notices[i - 1].notice.level == Notice::Level::error) return s.notices[i - 1].notice.text;
        return "it was not opened";
    }
    static bool is_same_place(const std::string& a, const std::string& b) {
        std::error_code failed;
        const bool is_same = std::filesystem::equivalent(a, b, failed);
        return is_same || std::filesystem::equivalent(a, std::filesystem::path(b).parent_path(), failed);
    }

    std::string shot(const std::string& file) {
        while (w_.shell().workspace().desk().fonts.is_pending())  // characters that came a moment ago
            if (!frame()) return "the window was closed";
        if (!frame()) return "the window was closed";
        std::future<std::string> done = w_.shell().picture(file);
        while (done.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready)
            if (!frame()) return "the window was closed";
        return done.get();
    }

    Workbench& w_;
    viz::Driver driver_;
    bool is_real_ = false;
    int n_frames_ = 0;
    Clock::time_point paced_at_ = Clock::now();
    std::clock_t cpu_at_ = 0;
    std::jthread alarm_;
};

}  // namespace

int run_drive(const Args& args) {
    ModelArgs model;
    std::string script, runs, size = "1600x1000";
    bool is_headless = false, is_forgetful = false;
    Options o(
        "drive", "SCRIPT [OPTIONS]",
        "Runs the real program from a script, one verb a line: type TEXT, key CHORD, click LABEL, hover LABEL, "
        "token N,\n"
        "layer N, view NAME, open DIR, wait idle|SECONDS, expect TEXT, expect-value LABEL = X ± E, shot FILE,\n"
        "frames N (draws N frames of this view and prints how long they took),\n"
        "pace real|fast (frames wait for a reason, as for a user; fast again prints what was drawn and what it cost),\n"
        "set NAME VALUE (mode, temperature, top-k, top-p, min-p, repetition-penalty, seed, max-new-tokens).\n"
        "labels [TEXT] (prints the names that hold the text, with what they show), menu LABEL (a right click).\n"
        "A LABEL may be given by its last part, or by the word before a number: Think High for mode/Think High,\n"
        "MaxVio for routing/load/maxvio. Ends with 1 at the first step that fails, naming its line.");
    o.positional("SCRIPT", &script, "the script; # begins a comment")
        .flag("--headless", &is_headless, "draw without a window; also where there is no display")
        .flag("--forget", &is_forgetful, "read and write neither conversations nor settings")
        .text("--runs", "DIR", &runs, "folder of the lab's runs (the XDG data folder's)")
        .text("--size", "WxH", &size, "of the window (1600x1000)");
    add_model_options(o, model);
    if (!o.parse(args)) return 0;
    int width = 0, height = 0, n_read = 0;
    if (std::sscanf(size.c_str(), "%5dx%5d%n", &width, &height, &n_read) != 2 ||
        n_read != static_cast<int>(size.size()) || width < 320 || height < 240 || width > 16384 || height > 16384)
        throw UsageError("--size " + escaped(size) + ": expected WxH from 320x240 to 16384x16384");

    const std::string text = read_file(script, 1 << 20);
    std::vector<Step> steps;
    try {
        steps = parse_script(text, script);
    } catch (const Error& e) {  // a line that can't be run fails like one that was
        std::fprintf(stderr, "vitrine: %s\n", e.what());
        return 1;
    }
    WorkbenchOptions options;
    options.model = std::filesystem::absolute(model.folder_or_shipped()).string();
    options.engine = model.options();
    options.is_remembered = !is_forgetful;
    options.experiments = shipped_catalogue();
    if (!runs.empty()) options.runs_folder = std::filesystem::absolute(runs).string();
    options.shell.has_window = !is_headless && has_display();
    options.shell.width = width;
    options.shell.height = height;
    options.shell.content_scale = 1;
    options.shell.time_step = 1.0 / 60;
    ui::registry_enable(true);
    Workbench workbench(options);
    Drive drive(workbench);
    for (const Step& s : steps) {
        const std::string problem = drive.run(s);
        if (problem.empty()) continue;
        std::fprintf(stderr, "vitrine: %s:%d: %s %s: %s\n", escaped(script, 512).c_str(), s.line, s.verb.c_str(),
                     escaped(s.rest).c_str(), problem.c_str());
        return 1;
    }
    return 0;
}

}  // namespace vitrine::cli
