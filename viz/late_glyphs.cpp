// Characters into a built atlas.
#include "viz/late_glyphs.h"

#include <fcntl.h>
#include <stb_truetype.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <utility>

#include "viz/imgui_compat.h"

namespace vitrine::viz {

// The font's file, mapped: a CJK face has some 20 MB, of which little is read.
struct LateGlyphs::Face {
    stbtt_fontinfo info{};
    void* data = MAP_FAILED;
    size_t n = 0;
    bool is_usable = false;
    Face(const std::string& path, int index) {
        const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        struct stat s {};
        if (fd < 0) return;
        if (fstat(fd, &s) == 0 && s.st_size > 0) {
            n = static_cast<size_t>(s.st_size);
            data = mmap(nullptr, n, PROT_READ, MAP_PRIVATE, fd, 0);
        }
        close(fd);
        if (data == MAP_FAILED) return;
        const auto* bytes = static_cast<const unsigned char*>(data);
        const int offset = stbtt_GetFontOffsetForIndex(bytes, index);
        is_usable = offset >= 0 && stbtt_InitFont(&info, bytes, offset);
    }
    ~Face() {
        if (data != MAP_FAILED) munmap(data, n);
    }
    Face(const Face&) = delete;
    Face& operator=(const Face&) = delete;
};

LateGlyphs::LateGlyphs() = default;
LateGlyphs::~LateGlyphs() {
    wait();
}

#if IMGUI_VERSION_NUM >= 19200

void LateGlyphs::set_face(const std::string&, int) {}
void LateGlyphs::attach(ImFontAtlas*, std::vector<Target>) {}
void LateGlyphs::add(unsigned) {}
bool LateGlyphs::has(unsigned) const {
    return true;
}
LateGlyphs::Change LateGlyphs::update() {
    return {};
}
bool LateGlyphs::is_pending() const {
    return false;
}
void LateGlyphs::wait() {}

#else

namespace {

constexpr int kGap = 1, kRows = 512, kMostRows = 8192;
constexpr size_t kPicturesAtOnce = 400, kPicturesPerFrame = 600;
constexpr float kSliver = 1 / 64.0f;  // [px] wide, from a whole pixel on: over no pixel's centre

// Texture coordinates of a sliver: both corners alike, below the texture.
float sliver_u(unsigned code) {
    return static_cast<float>(code);
}
float sliver_v(int size) {
    return -1 - static_cast<float>(size);
}

template <class F>
void for_each_vertex(F f) {
    const ImDrawData* data = ImGui::GetDrawData();
    const ImTextureID atlas = ImGui::GetIO().Fonts->TexID;
    for (int l = 0; data && l < data->CmdListsCount; ++l) {
        const ImDrawList* list = data->CmdLists[l];
        for (const ImDrawCmd& cmd : list->CmdBuffer)
            for (unsigned i = 0; !cmd.UserCallback && cmd.GetTexID() == atlas && i < cmd.ElemCount; ++i)
                f(list->VtxBuffer[static_cast<int>(cmd.VtxOffset +
                                                   list->IdxBuffer[static_cast<int>(cmd.IdxOffset + i)])]
                      .uv);
    }
}

}  // namespace

void LateGlyphs::set_face(const std::string& path, int index) {
    face_ = path.empty() ? nullptr : std::make_shared<Face>(path, index);
    if (face_ && !face_->is_usable) face_ = nullptr;
}

void LateGlyphs::attach(ImFontAtlas* atlas, std::vector<Target> targets) {
    if (coming_.valid()) coming_.wait(), coming_ = {};  // of sizes that are no more
    atlas_ = atlas, targets_ = std::move(targets);
    sizes_.clear(), ready_.clear(), to_draw_.clear(), without_width_.clear(), places_.clear(), refused_.clear();
    is_on_demand_ = false;
    for (const Target& t : targets_)
        if (!std::count(sizes_.begin(), sizes_.end(), t.size)) sizes_.push_back(t.size);
    x_ = shelf_ = 0, y_ = room_end_ = first_row_ = atlas->TexHeight;
}

bool LateGlyphs::has(unsigned code_point) const {
    return face_ && stbtt_FindGlyphIndex(&face_->info, static_cast<int>(code_point)) != 0;
}

void LateGlyphs::add(unsigned code_point) {
    if (atlas_ && has(code_point))
        without_width_.push_back(code_point);
}

// A glyph that advances as the real one will, drawn as a sliver.
void LateGlyphs::give_widths() {
    if (without_width_.empty()) return;
    ImFontConfig config;
    config.PixelSnapH = true;
    for (const Target& t : targets_) {
        const float scale = stbtt_ScaleForPixelHeight(&face_->info, t.size);
        for (const unsigned c : without_width_) {
            if (t.font->FindGlyphNoFallback(static_cast<ImWchar>(c))) continue;
            int advance = 0, bearing = 0;
            stbtt_GetCodepointHMetrics(&face_->info, static_cast<int>(c), &advance, &bearing);
            t.font->AddGlyph(&config, static_cast<ImWchar>(c), 0, 0, 0, 0, 0, 0, 0, 0,
                             static_cast<float>(advance) * scale);
        }
        t.font->BuildLookupTable();
    }
    for (const unsigned c : without_width_)
        for (int size = 0; size < static_cast<int>(sizes_.size()); ++size) {
            clear(c, size);
            if (!is_on_demand_) to_draw_.emplace_back(c, size);
        }
    without_width_.clear();
}

// The glyph becomes a sliver in its middle.
void LateGlyphs::clear(unsigned code, int size) {
    for (const Target& t : targets_) {
        auto* g = const_cast<ImFontGlyph*>(t.font->FindGlyphNoFallback(static_cast<ImWchar>(code)));
        if (!g || t.size != sizes_[static_cast<size_t>(size)]) continue;
        g->X0 = std::floor(g->AdvanceX / 2), g->X1 = g->X0 + kSliver;
        g->Y0 = 0, g->Y1 = t.size;
        g->U0 = g->U1 = sliver_u(code), g->V0 = g->V1 = sliver_v(size);
        g->Visible = 1;
    }
}

std::vector<LateGlyphs::Wanted> LateGlyphs::asked_for() {
    std::vector<Wanted> out;
    for_each_vertex([&](ImVec2 uv) {
        if (uv.y <= -1 && uv.x >= 0 && uv.x < 65536)
            out.emplace_back(static_cast<unsigned>(uv.x), static_cast<int>(-1 - uv.y));
    });
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
}

// The last frame's vertices outlive a change of the glyphs: what got its picture since is no longer missing.
std::vector<LateGlyphs::Wanted> LateGlyphs::missing() const {
    std::vector<Wanted> out;
    if (!is_on_demand_) return out;
    for (const Wanted& w : asked_for())
        for (const Target& t : targets_) {
            if (static_cast<size_t>(w.second) >= sizes_.size() || t.size != sizes_[static_cast<size_t>(w.second)])
                continue;
            const ImFontGlyph* g = t.font->FindGlyphNoFallback(static_cast<ImWchar>(w.first));
            if (g && g->V0 < 0 && !std::count(refused_.begin(), refused_.end(), w)) out.push_back(w);
            break;
        }
    return out;
}

// On another thread: stb_truetype only reads the face and knows nothing of ImGui.
std::vector<LateGlyphs::Picture> LateGlyphs::draw(std::shared_ptr<Face> face, std::vector<Wanted> wanted,
                                                  std::vector<float> sizes) {
    std::vector<Picture> out;
    for (const auto& [code, size] : wanted) {
        const int glyph = stbtt_FindGlyphIndex(&face->info, static_cast<int>(code));
        const float scale = stbtt_ScaleForPixelHeight(&face->info, sizes[static_cast<size_t>(size)]);
        Picture p;
        int x1 = 0, y1 = 0;
        stbtt_GetGlyphBitmapBox(&face->info, glyph, scale, scale, &p.x0, &p.y0, &x1, &y1);
        p.code = code, p.size = size, p.width = std::max(0, x1 - p.x0), p.height = std::max(0, y1 - p.y0);
        p.coverage.resize(static_cast<size_t>(p.width) * static_cast<size_t>(p.height));
        if (!p.coverage.empty())
            stbtt_MakeGlyphBitmap(&face->info, p.coverage.data(), p.width, p.height, p.width, scale, scale, glyph);
        out.push_back(std::move(p));
    }
    std::reverse(out.begin(), out.end());
    return out;
}

void LateGlyphs::begin_drawing() {
    if (coming_.valid() || !ready_.empty()) return;
    if (to_draw_.empty()) to_draw_ = missing();
    if (to_draw_.empty()) return;
    const auto n = static_cast<ptrdiff_t>(std::min(to_draw_.size(), kPicturesAtOnce));
    std::vector<Wanted> wanted(to_draw_.begin(), to_draw_.begin() + n);
    to_draw_.erase(to_draw_.begin(), to_draw_.begin() + n);
    coming_ = std::async(std::launch::async, draw, face_, std::move(wanted), sizes_);
}

// Rows below the others; what lies in the texture keeps its pixels and gets other coordinates.
bool LateGlyphs::grow() {
    const int before = atlas_->TexHeight, after = before + kRows, width = atlas_->TexWidth;
    if (after > kMostRows) return false;
    const auto bytes = [&](int rows) { return static_cast<size_t>(width) * static_cast<size_t>(rows); };
    auto* alpha = static_cast<unsigned char*>(ImGui::MemAlloc(bytes(after)));
    std::memcpy(alpha, atlas_->TexPixelsAlpha8, bytes(before));
    std::memset(alpha + bytes(before), 0, bytes(kRows));
    ImGui::MemFree(atlas_->TexPixelsAlpha8);
    atlas_->TexPixelsAlpha8 = alpha;
    if (atlas_->TexPixelsRGBA32) {
        auto* rgba = static_cast<unsigned*>(ImGui::MemAlloc(bytes(after) * 4));
        std::memcpy(rgba, atlas_->TexPixelsRGBA32, bytes(before) * 4);
        std::fill(rgba + bytes(before), rgba + bytes(after), IM_COL32(255, 255, 255, 0));
        ImGui::MemFree(atlas_->TexPixelsRGBA32);
        atlas_->TexPixelsRGBA32 = rgba;
    }
    const float k = static_cast<float>(before) / static_cast<float>(after);
    for (ImFont* font : atlas_->Fonts)
        for (ImFontGlyph& g : font->Glyphs)
            if (g.V0 >= 0) g.V0 *= k, g.V1 *= k;
    for (ImVec4& line : atlas_->TexUvLines) line.y *= k, line.w *= k;
    atlas_->TexUvWhitePixel.y *= k, atlas_->TexUvScale.y *= k;
    atlas_->TexHeight = room_end_ = after;
    return true;
}

void LateGlyphs::mark_used() {
    for (Place& p : places_) p.is_used = false;
    const auto width = static_cast<float>(atlas_->TexWidth), height = static_cast<float>(atlas_->TexHeight);
    const auto before = [](const std::pair<int, int>& at, const Place& p) { return at < std::pair(p.y, p.x); };
    for_each_vertex([&](ImVec2 uv) {
        const int x = static_cast<int>(std::lround(uv.x * width)), y = static_cast<int>(std::lround(uv.y * height));
        if (uv.y < 0 || y < first_row_) return;
        // The shelf that starts at or above y, and in it the picture that starts at or left of x. Corners lie on a
        // picture's edge and pictures are a pixel apart, so each corner belongs to one.
        auto it = std::upper_bound(places_.begin(), places_.end(), std::pair(y, atlas_->TexWidth), before);
        if (it == places_.begin()) return;
        it = std::upper_bound(places_.begin(), places_.end(), std::pair((it - 1)->y, x), before);
        if (it != places_.begin()) (it - 1)->is_used = true;
    });
}

// Room for others: what the last frame used is packed anew from the first row on, the rest become slivers. False: all
// is used.
bool LateGlyphs::evict(Change& change) {
    mark_used();
    if (std::all_of(places_.begin(), places_.end(), [](const Place& p) { return p.is_used; })) return false;
    const size_t width = static_cast<size_t>(atlas_->TexWidth), begin = static_cast<size_t>(first_row_) * width;
    std::vector<Picture> kept;
    for (const Place& p : std::exchange(places_, {})) {
        if (p.is_used) {
            Picture k{p.code, p.size, 0, 0, p.width, p.height, {}};
            for (const Target& t : targets_) {
                const ImFontGlyph* g = t.font->FindGlyphNoFallback(static_cast<ImWchar>(p.code));
                if (g && t.size == sizes_[static_cast<size_t>(p.size)])
                    k.x0 = static_cast<int>(g->X0), k.y0 = static_cast<int>(g->Y0 - std::floor(t.font->Ascent + 0.5f));
            }
            for (int r = 0; r < p.height; ++r) {
                const unsigned char* row = atlas_->TexPixelsAlpha8 + static_cast<size_t>(p.y + r) * width + p.x;
                k.coverage.insert(k.coverage.end(), row, row + p.width);
            }
            kept.push_back(std::move(k));
        }
        clear(p.code, p.size);
    }
    const size_t n = static_cast<size_t>(atlas_->TexHeight) * width - begin;
    std::memset(atlas_->TexPixelsAlpha8 + begin, 0, n);
    if (atlas_->TexPixelsRGBA32) std::fill_n(atlas_->TexPixelsRGBA32 + begin, n, IM_COL32(255, 255, 255, 0));
    x_ = shelf_ = 0, y_ = first_row_;
    is_on_demand_ = true, ++n_evictions_;
    refused_.clear();
    for (const Picture& p : kept) place(p, change);
    return true;
}

// False: there is no room any more; the glyph stays a sliver.
bool LateGlyphs::place(const Picture& p, Change& change) {
    if (p.coverage.empty()) {  // a space
        for (const Target& t : targets_)
            if (t.size == sizes_[static_cast<size_t>(p.size)])
                if (auto* g = const_cast<ImFontGlyph*>(t.font->FindGlyphNoFallback(static_cast<ImWchar>(p.code))))
                    g->Visible = 0;
        return true;
    }
    if (x_ + p.width + kGap > atlas_->TexWidth) x_ = 0, y_ += shelf_, shelf_ = 0;
    while (y_ + p.height + kGap > room_end_) {
        if (!grow()) return false;
        change.is_whole = true;
    }
    const int width = atlas_->TexWidth;
    for (int r = 0; r < p.height; ++r) {
        const size_t at = static_cast<size_t>(y_ + r) * static_cast<size_t>(width) + static_cast<size_t>(x_);
        const unsigned char* from = p.coverage.data() + static_cast<size_t>(r) * static_cast<size_t>(p.width);
        std::memcpy(atlas_->TexPixelsAlpha8 + at, from, static_cast<size_t>(p.width));
        for (int c = 0; c < p.width && atlas_->TexPixelsRGBA32; ++c)
            atlas_->TexPixelsRGBA32[at + static_cast<size_t>(c)] = IM_COL32(255, 255, 255, from[c]);
    }
    const ImVec2 scale = atlas_->TexUvScale;
    for (const Target& t : targets_) {
        if (t.size != sizes_[static_cast<size_t>(p.size)]) continue;
        auto* g = const_cast<ImFontGlyph*>(t.font->FindGlyphNoFallback(static_cast<ImWchar>(p.code)));
        if (!g) continue;
        const float base = std::floor(t.font->Ascent + 0.5f);
        g->X0 = static_cast<float>(p.x0), g->X1 = static_cast<float>(p.x0 + p.width);
        g->Y0 = base + static_cast<float>(p.y0), g->Y1 = base + static_cast<float>(p.y0 + p.height);
        g->U0 = static_cast<float>(x_) * scale.x, g->U1 = static_cast<float>(x_ + p.width) * scale.x;
        g->V0 = static_cast<float>(y_) * scale.y, g->V1 = static_cast<float>(y_ + p.height) * scale.y;
        g->Visible = 1;
    }
    places_.push_back({p.code, p.size, x_, y_, p.width, p.height, false});
    const int top = change.n_rows ? std::min(change.row, y_) : y_;
    const int end = std::max(change.n_rows ? change.row + change.n_rows : 0, y_ + p.height);
    change.row = top, change.n_rows = end - top;
    x_ += p.width + kGap, shelf_ = std::max(shelf_, p.height + kGap);
    return true;
}

LateGlyphs::Change LateGlyphs::update() {
    Change change;
    if (!atlas_ || !face_) return change;
    give_widths();
    if (coming_.valid() && coming_.wait_for(std::chrono::seconds(0)) == std::future_status::ready)
        ready_ = coming_.get();
    for (size_t n = 0; n < kPicturesPerFrame && !ready_.empty(); ++n) {
        if (!place(ready_.back(), change)) {
            to_draw_.clear();
            // What nobody looks at need not be drawn: it is asked for when it is shown.
            if (evict(change) || !is_on_demand_) {
                is_on_demand_ = true;
                const std::vector<Wanted> wanted = missing();
                std::erase_if(ready_, [&](const Picture& p) {
                    return !std::binary_search(wanted.begin(), wanted.end(), Wanted(p.code, p.size));
                });
                continue;
            }
            for (const Picture& p : ready_) refused_.emplace_back(p.code, p.size);
            ready_.clear();
        }
        if (!ready_.empty()) ready_.pop_back();
    }
    begin_drawing();
    return change;
}

bool LateGlyphs::is_pending() const {
    return coming_.valid() || !ready_.empty() || !to_draw_.empty() || !without_width_.empty() || !missing().empty();
}

void LateGlyphs::wait() {
    if (coming_.valid()) coming_.wait();
}

#endif

}  // namespace vitrine::viz
