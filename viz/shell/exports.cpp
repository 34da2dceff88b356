// Exports in the window: what every picture says about where it comes from, and telling when a file is written.
#include <cstdio>

#include "viz/shell/workspace.h"
#include "viz/text_util.h"
#include "viz/widgets/export.h"
#include "viz/widgets/number.h"
#include "viz/widgets/view_head.h"

namespace vitrine::viz {
namespace {

constexpr const char* kDot = " \xC2\xB7 ";

// FNV-1a, 64 bits: names a prompt, no more.
std::string hash_of(const std::string& text) {
    uint64_t h = 0xcbf29ce484222325u;
    for (const unsigned char c : text) h = (h ^ c) * 0x100000001b3u;
    char b[20];
    std::snprintf(b, sizeof b, "%016llx", static_cast<unsigned long long>(h));
    return b;
}

std::string sampling_line(const Sampling& s, Mode mode) {
    std::string out = std::string(mode_title(mode)) + kDot;
    if (s.temperature == 0) return out + "greedy";
    out += "temperature " + ui::format_number(s.temperature);
    if (s.top_k) out += ", top-k " + std::to_string(s.top_k);
    if (s.top_p < 1) out += ", top-p " + ui::format_number(s.top_p);
    if (s.min_p > 0) out += ", min-p " + ui::format_number(s.min_p);
    return out + ", seed " + std::to_string(s.seed);
}

}  // namespace

void Workspace::tend_exports() {
    for (const ui::ExportResult& r : ui::take_export_results())
        desk_.say(r.problem.empty() ? Notice::Level::info : Notice::Level::error,
                  r.problem.empty() ? "Exported to " + r.path : "The export failed: " + r.problem);
    if (!ui::is_exporting()) return;
    const Snapshot& s = desk_.s;
    ui::ExportContext c;
    c.folder = desk_.export_folder;
    const Panel& panel = *desk_.panels[static_cast<size_t>(desk_.panel)];
    c.lines = panel.picture_lines(s);
    if (c.lines.empty() && s.model) {
        // Who read the token that is shown, and how: not what the window is set to now.
        const Turn* answer = answer_of(s, desk_.shown);
        const bool is_now = !answer || answer->numerics.empty() || answer->numerics == numerics_name(s.model->numerics);
        c.lines.push_back(displayable(s.model->name) + kDot +
                          (is_now ? std::string(numerics_name(s.model->numerics)) + kDot + s.model->device : answer->numerics));
        std::string line = s.timeline.tokens.empty() ? "" : "prompt " + hash_of(s.timeline.prompt_text) + kDot;
        if (const TokenInfo* t = desk_.token(desk_.shown))
            line += "token " + ui::format_count(t->ref.position) + " \xE2\x80\x9C" + token_label(t->text) +
                    "\xE2\x80\x9D" + kDot;
        c.lines.push_back(line + ui::layer_text(s.model->config, desk_.cursor.layer));
        c.lines.push_back(sampling_line(answer ? answer->sampling : desk_.settings.sampling,
                                        answer ? answer->mode : desk_.settings.mode));
    }
    ui::set_export_context(std::move(c));
}

}  // namespace vitrine::viz
