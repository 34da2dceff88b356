// Pictures of the window without an engine or a display, to look at: gallery FOLDER [WIDTH HEIGHT] [window].
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "app/shell.h"
#include "engine/base/error.h"
#include "tests/viz/fake_feed.h"
#include "tests/viz/fake_lab.h"
#include "viz/widgets/registry.h"

namespace vitrine::viz {
namespace {

struct Gallery {
    fake::Sink sink;
    std::unique_ptr<Shell> shell;
    std::string folder, suffix;

    void shot(const std::string& name) {
        for (int i = 0; i < 4 || shell->workspace().desk().fonts.is_pending(); ++i) shell->frame();
        const std::string problem = shell->picture(folder + "/" + name + suffix + ".png").get();
        std::printf("%s%s.png %s %.1f ms/frame, %zu texts cut\n", name.c_str(), suffix.c_str(), problem.c_str(),
                    shell->workspace().desk().frame_ms, ui::find_cut_text().size());
    }
};

void make_lost_gpu_picture(Gallery& g) {
    Snapshot& s = g.shell->snapshot();
    const std::shared_ptr<const ModelInfo> before = s.model;
    auto lost = std::make_shared<ModelInfo>(*before);
    lost->is_gpu_lost = true, lost->device = "cuda:0 (NVIDIA H200), lost";
    s.apply(ModelLoaded{lost});
    s.apply(Notice{Notice::Level::error, "The GPU was lost: GPU 0, running a step: unspecified launch failure"});
    g.shot("gpu-lost");
    s.model = before;
    s.notices.clear();
}

void make_lab_pictures(Gallery& g) {
    Workspace& w = g.shell->workspace();
    Driver driver(g.shell->input(), [&] { return g.shell->frame(); });
    w.show_panel("Lab");
    g.shell->snapshot().lab = fake::lab_without_runs();
    g.shot("lab-first");
    g.shell->snapshot().lab = fake::lab();
    g.shot("lab");
    w.desk().settings.is_chat_open = false;
    driver.frames(2);
    g.shot("lab-wide");
    for (const ui::Widget* row = nullptr; const std::string& name : ui::widget_names("lab/events/"))
        if (row = ui::find_widget(name); row && row->text.find("times the median") != std::string::npos) driver.click(name);
    g.shot("lab-spike");
    for (const char* tab : {"Verdict", "Difference", "README"}) {
        driver.click(std::string("lab/tab/") + tab);
        g.shot(std::string("lab-") + tab);
    }
    driver.click("lab/tab/Plots");
    driver.click("lab/experiment/X08");
    g.shot("lab-calculated");
    w.desk().settings.is_chat_open = true;
}

void make_pictures(Gallery& g) {
    Workspace& w = g.shell->workspace();
    g.shell->snapshot() = fake::snapshot(fake::typical());
    for (const Turn& t : g.shell->snapshot().conversation->path) w.desk().fonts.note_text(t.content + t.reasoning);
    for (const TokenInfo& t : g.shell->snapshot().timeline.tokens) w.desk().fonts.note_text(t.text);
    Driver driver(g.shell->input(), [&] { return g.shell->frame(); });
    for (const auto& p : w.desk().panels) {
        w.show_panel(p->name());
        g.shot(p->name());
    }
    make_lost_gpu_picture(g);
    make_lab_pictures(g);
    w.show_panel("Overview");
    driver.frames(3);
    driver.click("turn/1/thinking");
    g.shot("thinking");
    const std::pair<Overlay, const char*> overlays[] = {
        {Overlay::palette, "palette"},   {Overlay::conversations, "conversations"}, {Overlay::prompt, "prompt"},
        {Overlay::sampling, "sampling"}, {Overlay::settings, "settings"},           {Overlay::open_folder, "open"},
        {Overlay::keys, "keys"}};
    for (const auto& [which, name] : overlays) {
        w.desk().open(which);
        g.shot(name);
        w.desk().close();
        driver.frames(2);
    }
    driver.click("menu/View");
    g.shot("menu");
    driver.key("Escape");
    // 61 layers of 384 experts, a million tokens, of which the last are recorded.
    g.shell->snapshot() = fake::snapshot(fake::huge());
    g.shell->snapshot().timeline_version = 2;  // another text than before
    for (const char* name : {"Overview", "Routing", "Attention", "Streams", "Cache"}) {
        w.show_panel(name);
        g.shot(std::string("huge-") + name);
    }
    w.show_panel("Overview");
    g.shell->snapshot() = fake::empty_conversation(fake::typical());
    w.desk().say(Notice::Level::error, "config.json: hidden_size = -4: expected an integer in [1, 65536]");
    g.shot("empty");
    g.shell->snapshot() = Snapshot{};
    g.shot("nothing");
}

}  // namespace
}  // namespace vitrine::viz

int main(int argc, char** argv) {
    using namespace vitrine;
    if (argc < 2) return std::fprintf(stderr, "usage: %s FOLDER [WIDTH HEIGHT] [window]\n", argv[0]), 2;
    ShellOptions options;
    options.width = argc > 3 ? std::atoi(argv[2]) : 1280, options.height = argc > 3 ? std::atoi(argv[3]) : 800;
    options.has_window = argc > 4 && std::strcmp(argv[4], "window") == 0;
    options.time_step = 1 / 60.0;
    viz::ui::registry_enable(true);
    for (const bool is_dark : {true, false}) {
        try {
            viz::Gallery g;
            g.folder = argv[1], g.suffix = is_dark ? "-dark" : "-light";
            g.shell = Shell::open(options, g.sink, {});
            g.shell->settings().is_dark = is_dark;
            viz::make_pictures(g);
        } catch (const Error& e) {
            return std::fprintf(stderr, "%s\n", e.what()), 1;
        }
    }
    return 0;
}
