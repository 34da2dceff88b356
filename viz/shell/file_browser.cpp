// Choosing a model folder: recent ones, folders below, a path to type. Listings are read on another thread.

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "viz/imgui_compat.h"
#include "viz/shell/overlays.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxEntries = 5000;

}  // namespace

FileBrowser::Listing FileBrowser::list(const std::string& folder) {
    Listing out;
    std::error_code failed;
    const fs::path path = fs::absolute(fs::path(folder), failed).lexically_normal();
    out.folder = path.string();
    while (out.folder.size() > 1 && out.folder.back() == '/') out.folder.pop_back();
    out.is_model = fs::is_regular_file(path / "config.json", failed);
    fs::directory_iterator it(path, fs::directory_options::skip_permission_denied, failed);
    if (failed) {
        out.error = out.folder + ": " + failed.message();
        return out;
    }
    for (; it != fs::directory_iterator() && out.entries.size() < kMaxEntries; it.increment(failed)) {
        if (failed) break;
        const std::string name = it->path().filename().string();
        std::error_code ignored;
        if (name.empty() || name[0] == '.' || !it->is_directory(ignored)) continue;
        out.entries.push_back({name, fs::is_regular_file(it->path() / "config.json", ignored)});
    }
    std::sort(out.entries.begin(), out.entries.end(),
              [](const Entry& a, const Entry& b) { return a.is_model != b.is_model ? a.is_model : a.name < b.name; });
    return out;
}

void FileBrowser::go(const std::string& folder) {
    if (coming_.valid()) return;
    coming_ = std::async(std::launch::async, [folder] { return list(folder); });
}

void FileBrowser::open(Desk& desk, const std::string& folder) {
    if (desk.open_model(folder)) desk.close();
}

void FileBrowser::draw_entries(Desk& desk, float height) {
    ui::Region list("folders", {0, height});
    if (!shown_.error.empty()) {
        ui::text_wrapped(shown_.error, "open/error");
        return;
    }
    if (shown_.entries.empty()) ui::text_dim(shown_.is_model ? "This is a model folder." : "No folders here.");
    for (const Entry& e : shown_.entries) {
        const ImVec2 p = ImGui::GetCursorScreenPos();
        const float row = ImGui::GetFrameHeight(), width = ImGui::GetContentRegionAvail().x;
        ImGui::PushID(e.name.c_str());
        const std::string path = shown_.folder + (shown_.folder == "/" ? "" : "/") + e.name;
        if (ImGui::InvisibleButton("folder", {width, row})) e.is_model ? open(desk, path) : go(path);
        ui::mark("folder/" + e.name, e.name);
        if (ImGui::IsItemHovered())
            ImGui::GetWindowDrawList()->AddRectFilled(p, {p.x + width, p.y + row}, theme().hovered, px(5));
        const float y = p.y + (row - ImGui::GetTextLineHeight()) / 2;
        ui::paint_text(
            ImGui::GetWindowDrawList(), {p.x + px(10), y}, e.is_model ? theme().text : theme().text_dim,
            ui::elide(displayable(e.name) + (e.is_model ? "" : "/"), width - px(90)).c_str());
        if (e.is_model) {
            ui::FontScope small(Font::small);
            const float w = ImGui::CalcTextSize("model").x;
            ui::paint_text(ImGui::GetWindowDrawList(), {p.x + width - w - px(10), y + px(1)}, theme().text_dim, "model");
        }
        ImGui::PopID();
    }
}

void FileBrowser::draw(Desk& desk) {
    if (desk.is_overlay_new) {
        std::string start = desk.s.model ? desk.s.model->folder : "";
        if (start.empty() && !desk.settings.recent_folders.empty()) start = desk.settings.recent_folders.front();
        fs::path parent = fs::path(start).parent_path();
        std::error_code failed;  // a folder that is gone: the nearest one above that exists
        while (!parent.empty() && parent != parent.root_path() && !fs::is_directory(parent, failed))
            parent = parent.parent_path();
        go(parent.empty() ? "." : parent.string());
    }
    if (coming_.valid() && coming_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) {
        shown_ = coming_.get();
        typed_ = shown_.folder;
    }
    if (ui::button("Up") && !shown_.folder.empty()) go(fs::path(shown_.folder).parent_path().string());
    ImGui::SameLine();
    const float open_width =
        ImGui::CalcTextSize("Open").x + 2 * ImGui::GetStyle().FramePadding.x + ImGui::GetStyle().ItemSpacing.x;
    ImGui::SetNextItemWidth(ImGui::GetContentRegionAvail().x - open_width);
    const bool is_entered = ImGui::InputText("##path", &typed_, ImGuiInputTextFlags_EnterReturnsTrue);
    ui::mark("Folder path", typed_);
    ui::scrolls_sideways(ImGui::GetItemRectMin(), ImGui::GetItemRectMax());
    ImGui::SameLine();
    if (ui::primary_button("Open"))
        open(desk, typed_);
    else if (is_entered)
        go(typed_);
    ui::text_dim(
        "A model folder holds config.json, *.safetensors and tokenizer.json. You can also drop one onto the window.");
    ImGui::Dummy({0, px(2)});
    const auto& recents = desk.settings.recent_folders;
    if (!recents.empty()) {
        ui::section("Recent");
        std::string chosen;
        for (size_t i = 0; i < std::min<size_t>(recents.size(), 4); ++i) {
            ImGui::PushID(static_cast<int>(i));
            const std::string label = ui::elide(displayable(recents[i]), ImGui::GetContentRegionAvail().x - px(24));
            if (ui::quiet_button(label.c_str(), ("recent/" + std::to_string(i)).c_str())) chosen = recents[i];
            ImGui::PopID();
        }
        if (!chosen.empty()) open(desk, chosen);
        ImGui::Dummy({0, px(2)});
    }
    ui::section("Folders");
    draw_entries(desk, 0);
}

}  // namespace vitrine::viz
