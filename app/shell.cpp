// What window and headless shell share: draining reports, scale and fonts, settings, pictures.
#include "app/shell.h"

#include <imgui.h>
#include <stb_image_write.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>

#include "engine/base/error.h"
#include "viz/theme.h"
#include "viz/widgets/registry.h"

namespace vitrine {
namespace {

constexpr double kDrainSeconds = 0.002, kSaveAfterSeconds = 1.0, kMeasureEverySeconds = 1.0;

std::string write_png(const std::string& path, const viz::Pixels& p) {
    if (p.width <= 0 || p.height <= 0) return path + ": there is no picture to write";
    const int ok = stbi_write_png(path.c_str(), p.width, p.height, 4, p.rgba.data(), p.width * 4);
    return ok ? "" : path + ": the picture can't be written";
}

std::string time_stamp() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    localtime_r(&now, &parts);
    char text[32];
    std::strftime(text, sizeof text, "%Y%m%d-%H%M%S", &parts);
    return text;
}

// Resident memory of this process; 0 when the system does not say.
uint64_t resident_bytes() {
    unsigned long long total = 0, resident = 0;
    std::FILE* f = std::fopen("/proc/self/statm", "r");
    if (!f) return 0;
    const int n = std::fscanf(f, "%llu %llu", &total, &resident);
    std::fclose(f);
    return n == 2 ? resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) : 0;
}

}  // namespace

Shell::Shell(const ShellOptions& options, CommandSink& sink, std::function<bool(Update&)> next_update)
    : options_(options), sink_(sink), next_update_(std::move(next_update)) {
    settings_ = viz::load_settings(options_.settings_path, settings_problem_);
    saved_settings_ = settings_.to_json();
    if (options_.width > 0 && options_.height > 0)
        settings_.window_width = options_.width, settings_.window_height = options_.height;
    IMGUI_CHECKVERSION();
    ImGui::CreateContext();
    ImGui::GetIO().IniFilename = nullptr;  // what is remembered lives in our settings
    ImGui::GetIO().ConfigWindowsMoveFromTitleBarOnly = true;
}

// The platform's destructor ran before: it called shut_widgets and shut its backends down.
Shell::~Shell() {
    if (saving_.valid()) saving_.wait();
    pictures_.clear();
    ImGui::DestroyContext();
}

void Shell::start(float content_scale) {
    content_scale_ = options_.content_scale > 0 ? options_.content_scale : content_scale;
    workspace_ = std::make_unique<viz::Workspace>(snapshot_, sink_, settings_, fonts_);
    workspace_->desk().export_folder = options_.export_folder;
    is_dark_ = settings_.is_dark;
    if (!settings_problem_.empty()) workspace_->desk().say(Notice::Level::warning, settings_problem_);
}

double Shell::elapsed() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

// Characters of arriving text are noted so that the atlas has them before they are drawn.
void Shell::note_text(const Update& u) {
    if (const auto* c = std::get_if<ConversationChanged>(&u); c && c->conversation) {
        const bool is_other = c->conversation->id != noted_conversation_;
        noted_conversation_ = c->conversation->id;
        fonts_.note_text(c->conversation->title), fonts_.note_text(c->conversation->system);
        const auto& path = c->conversation->path;
        for (size_t i = is_other || path.size() < 3 ? 0 : path.size() - 2; i < path.size(); ++i)
            fonts_.note_text(path[i].content), fonts_.note_text(path[i].reasoning);
    } else if (const auto* l = std::get_if<ConversationsListed>(&u)) {
        for (const ConversationSummary& s : l->list) fonts_.note_text(s.title), fonts_.note_text(s.snippet);
    } else if (const auto* t = std::get_if<TimelineStarted>(&u); t && t->timeline) {
        fonts_.note_text(t->timeline->prompt_text);
    } else if (const auto* a = std::get_if<TokensAppended>(&u)) {
        fonts_.note_text(a->reasoning_delta), fonts_.note_text(a->content_delta);
        for (const TokenInfo& k : a->tokens) fonts_.note_text(k.text);
    } else if (const auto* x = std::get_if<ComparisonChanged>(&u); x && x->comparison) {
        fonts_.note_text(x->comparison->question);
        for (const ModeAnswer& m : x->comparison->modes) fonts_.note_text(m.content), fonts_.note_text(m.reasoning);
    } else if (const auto* n = std::get_if<Notice>(&u)) {
        fonts_.note_text(n->text);
    } else if (const auto* m = std::get_if<ModelLoaded>(&u); m && m->info) {
        fonts_.note_text(m->info->folder);
    } else if (const auto* lab = std::get_if<LabUpdate>(&u)) {
        if (const auto* e = std::get_if<LabEventsAdded>(lab))
            for (const LabEvent& event : e->events) fonts_.note_text(event.text), fonts_.note_text(event.detail);
        if (const auto* listed = std::get_if<LabListed>(lab))
            for (const LabInfo& i : listed->experiments) fonts_.note_text(i.question + i.claim + i.literature + i.readme);
        if (const auto* v = std::get_if<LabVerdictMade>(lab)) fonts_.note_text(v->verdict.sentence);
    }
}

void Shell::drain() {
    const double begin = elapsed();
    Update u;
    while (next_update_ && next_update_(u)) {
        note_text(u);
        snapshot_.apply(std::move(u));
        if (elapsed() - begin > kDrainSeconds) return wake();  // the rest in the next frame
    }
}

void Shell::apply_scale() {
    const float presenter = workspace_->desk().is_presenter ? 2.0f : 1.0f;
    const float scale = settings_.font_scale * presenter * content_scale_;
    if (scale != applied_scale_ || is_dark_ != settings_.is_dark) {
        const viz::Theme theme = viz::make_theme(settings_.is_dark);
        viz::apply_style(theme, scale);
        viz::set_theme(theme, scale);
        applied_scale_ = scale, is_dark_ = settings_.is_dark;
        fonts_.set_scale(scale);
    }
    has_new_fonts_ = fonts_.rebuild_if_needed();
    if (has_new_fonts_) fonts_changed();
}

bool Shell::frame() {
    if (!wait_for_work(workspace_->is_animating() || fonts_.is_pending())) return false;
    const double begin = elapsed();
    drain();
    fonts_.note_text(workspace_->desk().draft);
    apply_scale();
    begin_frame();
    input_.apply();
    ImGuiIO& io = ImGui::GetIO();
    io.DeltaTime =
        static_cast<float>(options_.time_step > 0 ? options_.time_step : std::max(1e-4, begin - last_frame_));
    last_frame_ = begin;
    snapshot_.time = options_.time_step > 0 ? n_frames_ * options_.time_step : begin;
    ++n_frames_;
    ImGui::NewFrame();
    workspace_->frame();
    ImGui::Render();
    end_frame();
    if (!has_new_fonts_) measure((elapsed() - begin) * 1e3);
    viz::Desk& desk = workspace_->desk();
    if (desk.wants_screenshot) {
        desk.wants_screenshot = false;
        const std::string path = options_.picture_folder + "/vitrine-" + time_stamp() + ".png";
        pictures_.push_back(picture(path));
        desk.say(Notice::Level::info, "The picture goes to " + path);
    }
    std::erase_if(pictures_, [&](std::future<std::string>& f) {
        if (f.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return false;
        if (const std::string problem = f.get(); !problem.empty()) desk.say(Notice::Level::error, problem);
        return true;
    });
    remember();
    return !desk.wants_quit;
}

void Shell::measure(double ms) {
    viz::Desk& desk = workspace_->desk();
    desk.frame_ms = desk.frame_ms == 0 ? ms : desk.frame_ms * 0.9 + ms * 0.1;
    if (elapsed() - measured_at_ < kMeasureEverySeconds) return;
    measured_at_ = elapsed();
    desk.resident_bytes = resident_bytes();
}

// Writes changed settings after a quiet second and at the end, on another thread.
void Shell::remember() {
    if (options_.settings_path.empty()) return;
    const bool is_quitting = workspace_->desk().wants_quit;
    if (!is_quitting && elapsed() - saved_at_ < kSaveAfterSeconds) return;
    if (saving_.valid()) {
        if (!is_quitting && saving_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return;
        if (const std::string problem = saving_.get(); !problem.empty())
            workspace_->desk().say(Notice::Level::warning, "The settings were not saved: " + problem);
    }
    saved_at_ = elapsed();
    std::string json = settings_.to_json();
    if (json == saved_settings_) return;
    saved_settings_ = json;
    saving_ = std::async(std::launch::async, [s = settings_, path = options_.settings_path]() -> std::string {
        try {
            std::error_code ignored;
            std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
            viz::save_settings(s, path);
            return "";
        } catch (const Error& e) {
            return e.what();
        }
    });
}

std::future<std::string> Shell::picture(const std::string& path) {
    return std::async(std::launch::async, [path, p = pixels()] { return write_png(path, p); });
}

}  // namespace vitrine
