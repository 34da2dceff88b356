// Requests for exports, and the thread that writes them.
#include "viz/widgets/export.h"

#include <stb_image_write.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <filesystem>
#include <future>
#include <mutex>

#include "engine/base/error.h"
#include "engine/base/reader.h"
#include "viz/imgui_compat.h"
#include "viz/theme.h"
#include "viz/widgets/raster.h"

namespace vitrine::viz::ui {
namespace {

constexpr float kMargin = 14;  // [design px] around the picture

struct Request {
    std::string name, path;
    ExportFormat format;
};
struct Seen {
    std::string name;
    int frame;
};

// What is written, with everything that the other thread needs.
struct Job {
    Figure figure;
    ExportFormat format;
    std::string path, folder, stem;
    std::function<std::string()> csv;
    std::vector<FontFile> words, mono;
};

ExportContext g_context;
std::vector<Request> g_requests;
std::vector<Seen> g_seen;
std::vector<std::future<ExportResult>> g_jobs;

// "streams/gain" -> "Streams: gain"
std::string title_of(const std::string& name) {
    std::string out;
    for (const char c : name) out += c == '/' ? std::string(": ") : std::string(1, c);
    if (!out.empty()) out[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(out[0])));
    return out;
}

std::string stem_of(const std::string& name) {
    std::string out;
    for (const char c : name) out += std::isalnum(static_cast<unsigned char>(c)) ? c : '-';
    return out;
}

// "streams-gain.png", "streams-gain-2.png", ...: nothing is overwritten.
std::string free_path(const std::string& folder, const std::string& stem, const char* extension) {
    for (int i = 1;; ++i) {
        const std::string name = stem + (i > 1 ? "-" + std::to_string(i) : "") + "." + extension;
        const std::filesystem::path path = std::filesystem::path(folder) / name;
        std::error_code failure;
        if (!std::filesystem::exists(path, failure) || i >= 10000) return path.string();
    }
}

void append(void* to, void* data, int n) {
    static_cast<std::string*>(to)->append(static_cast<const char*>(data), static_cast<size_t>(n));
}

std::string png_of(const Job& job) {
    const Pixels p = rasterize(job.figure, kPngScale, job.words, job.mono);
    std::string out;
    if (p.width <= 0 || !stbi_write_png_to_func(append, &out, p.width, p.height, 4, p.rgba.data(), p.width * 4))
        throw Error(ErrorKind::io, job.stem + ": the picture can't be made, it is " + std::to_string(job.figure.width) +
                                       " x " + std::to_string(job.figure.height) + " pixels large");
    return out;
}

ExportResult write(const Job& job) {
    // One at a time: two of one name must not choose the same free path.
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    const std::string path =
        job.path.empty() ? free_path(job.folder, job.stem, export_extension(job.format)) : job.path;
    try {
        std::error_code ignored;
        if (const auto parent = std::filesystem::path(path).parent_path(); !parent.empty())
            std::filesystem::create_directories(parent, ignored);
        write_file_atomic(path, job.format == ExportFormat::csv   ? job.csv()
                                : job.format == ExportFormat::svg ? to_svg(job.figure)
                                                                  : png_of(job));
        return {path, ""};
    } catch (const std::exception& e) {
        return {path, e.what()};
    }
}

}  // namespace

const char* export_extension(ExportFormat f) {
    return f == ExportFormat::png ? "png" : f == ExportFormat::svg ? "svg" : "csv";
}

void set_export_context(ExportContext c) {
    g_context = std::move(c);
}

std::vector<std::string> exportables() {
    std::vector<std::string> out;
    const int frame = ImGui::GetFrameCount();
    for (const Seen& s : g_seen)
        if (s.frame >= frame - 1 && std::find(out.begin(), out.end(), s.name) == out.end()) out.push_back(s.name);
    return out;
}

void request_export(std::string name, ExportFormat format, std::string path) {
    g_requests.push_back({std::move(name), std::move(path), format});
}

std::vector<ExportResult> take_export_results() {
    std::vector<ExportResult> out;
    std::erase_if(g_jobs, [&](std::future<ExportResult>& f) {
        if (f.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return false;
        out.push_back(f.get());
        return true;
    });
    return out;
}

bool is_exporting() {
    return !g_requests.empty() || !g_jobs.empty();
}

void wait_for_exports() {
    for (auto& f : g_jobs) f.wait();
}

Recording::Recording(const char* name, ImVec2 min, float width) : name_(name) {
    const int frame = ImGui::GetFrameCount();
    std::erase_if(g_seen, [&](const Seen& s) { return s.frame < frame - 1 || s.name == name_; });
    g_seen.push_back({name_, frame});
    const auto it =
        std::find_if(g_requests.begin(), g_requests.end(), [&](const Request& r) { return r.name == name_; });
    if (it == g_requests.end()) return;
    is_on_ = true;
    format_ = it->format, path_ = it->path;
    g_requests.erase(it);
    const float margin = px(kMargin);
    figure_.width = width + 2 * margin, figure_.background = theme().pane, figure_.title = title_of(name_);
    // The title and what the picture is of, above it.
    float y = margin;
    const auto add = [&](const std::string& text, ImU32 color) {
        const char* end = text.data() + text.size();
        for (const char* at = text.data(); at < end;) {
            const char* stop = std::max(at + 1, word_wrap(at, end, width));
            Shape& s = figure_.shapes.emplace_back();
            s.kind = Shape::Kind::text, s.points = {{margin, y}}, s.color = color, s.width = ImGui::GetFontSize();
            s.text.assign(at, stop), s.is_mono = true;
            y += ImGui::GetTextLineHeight() + px(2);
            for (at = stop; at < end && *at == ' ';) ++at;
        }
    };
    add(figure_.title, theme().text);
    for (const std::string& line : g_context.lines) add(line, theme().text_dim);
    y += px(6);
    origin_ = {min.x - margin, min.y - y};
}

void Recording::finish(float bottom, const std::function<std::function<std::string()>()>& make_csv) {
    if (!is_on_) return;
    figure_.height = bottom - origin_.y + px(kMargin);
    Job job{std::move(figure_), format_, std::move(path_), g_context.folder, stem_of(name_), {}, {}, {}};
    if (format_ == ExportFormat::csv) job.csv = make_csv();
    job.words = font_files(Font::small), job.mono = font_files(Font::mono_small);
    g_jobs.push_back(std::async(std::launch::async, [job = std::move(job)] { return write(job); }));
    is_on_ = false;
}

std::string csv_field(const std::string& s) {
    if (s.find_first_of(",\"\n\r") == std::string::npos) return s;
    std::string out = "\"";
    for (const char c : s) out += c == '"' ? "\"\"" : std::string(1, c);
    return out + "\"";
}

}  // namespace vitrine::viz::ui
