// Glyphs that come after the atlas was built (before Dear ImGui 1.92, which does this itself): Chinese, Japanese and
// Korean characters, when text with them arrives. At once they get their width, so that nothing jumps later; their
// pictures are made on another thread and put into rows that the atlas grows by. No frame waits for a glyph. UI thread.
//
// The rows end somewhere: at twice the type size after some 1,100 characters in all fonts. From then on only what a
// frame shows is in them: pictures that the last frame didn't use make room, and a character without a picture is drawn
// as a sliver that covers no pixel and carries its code in its texture coordinates, so that the last frame's vertices
// say what is missing. A window has fewer pixels than the rows, so what it shows at once fits.
#pragma once
#include <imgui.h>

#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace vitrine::viz {

class LateGlyphs {
  public:
    struct Target {
        ImFont* font;
        float size;                           // [px] of the face in this font
    };
    struct Change {
        bool is_whole = false;                // the texture has another size: upload all of it
        int row = 0, n_rows = 0;              // else these rows, when n_rows > 0
    };

    LateGlyphs();
    ~LateGlyphs();
    // A face of a font file; read once, by mapping.
    void set_face(const std::string& path, int index);
    // After the atlas was built anew: it has none of these glyphs.
    void attach(ImFontAtlas* atlas, std::vector<Target> targets);
    bool has(unsigned code_point) const;      // the face can draw it
    void add(unsigned code_point);            // again after attach()
    // Between frames: widths for what was added, pictures that are ready.
    Change update();
    bool is_pending() const;                  // pictures are still to come
    void wait();                              // until they are made: for pictures of the window and tests
    int n_evictions() const { return n_evictions_; }

  private:
    struct Face;
    struct Picture {
        unsigned code = 0;
        int size = 0;                         // index into sizes_
        int x0 = 0, y0 = 0, width = 0, height = 0;
        std::vector<unsigned char> coverage;
    };
    struct Place {  // of a picture in the atlas, shelf by shelf and left to right
        unsigned code = 0;
        int size = 0, x = 0, y = 0, width = 0, height = 0;
        bool is_used = false;  // by the last frame
    };
    using Wanted = std::pair<unsigned, int>;  // code point and size
    static std::vector<Picture> draw(std::shared_ptr<Face> face, std::vector<Wanted> wanted, std::vector<float> sizes);
    static std::vector<Wanted> asked_for();  // by slivers of the last frame
    std::vector<Wanted> missing() const;     // those that can be drawn
    void begin_drawing();
    void give_widths();
    void clear(unsigned code, int size);
    void mark_used();
    bool evict(Change& change);
    bool place(const Picture& p, Change& change);
    bool grow();

    std::shared_ptr<Face> face_;
    ImFontAtlas* atlas_ = nullptr;
    std::vector<Target> targets_;
    std::vector<float> sizes_;                // distinct ones: fonts of one size share pictures
    std::vector<unsigned> without_width_;
    std::vector<Wanted> to_draw_, refused_;  // refused: more than fit are shown at once
    std::vector<Place> places_;
    int first_row_ = 0;  // of the rows that were grown
    int n_evictions_ = 0;
    bool is_on_demand_ = false;  // the rows were full once
    std::future<std::vector<Picture>> coming_;
    std::vector<Picture> ready_;              // last one first
    int x_ = 0, y_ = 0, shelf_ = 0, room_end_ = 0;  // the shelf that is being filled, in rows that were grown
};

}  // namespace vitrine::viz
