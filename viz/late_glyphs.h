// Glyphs that come after the atlas was built (before Dear ImGui 1.92, which does this itself): Chinese, Japanese and Korean
// characters, when text with them arrives. At once they get their width, so that nothing jumps later; their pictures are made on
// another thread and put into rows that the atlas grows by. No frame waits for a glyph. UI thread.
#pragma once
#include <imgui.h>

#include <cstdint>
#include <future>
#include <memory>
#include <string>
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
    void add(unsigned code_point);            // again after attach()
    // Between frames: widths for what was added, pictures that are ready.
    Change update();
    bool is_pending() const;                  // pictures are still to come
    void wait();                              // until they are made: for pictures of the window and tests

  private:
    struct Face;
    struct Picture {
        unsigned code = 0;
        int size = 0;                         // index into sizes_
        int x0 = 0, y0 = 0, width = 0, height = 0;
        std::vector<unsigned char> coverage;
    };
    static std::vector<Picture> draw(std::shared_ptr<Face> face, std::vector<unsigned> codes, std::vector<float> sizes);
    void begin_drawing();
    void give_widths();
    bool place(const Picture& p, Change& change);
    bool grow();

    std::shared_ptr<Face> face_;
    ImFontAtlas* atlas_ = nullptr;
    std::vector<Target> targets_;
    std::vector<float> sizes_;                // distinct ones: fonts of one size share pictures
    std::vector<unsigned> without_width_, to_draw_;
    std::future<std::vector<Picture>> coming_;
    std::vector<Picture> ready_;              // last one first
    int x_ = 0, y_ = 0, shelf_ = 0, room_end_ = 0;  // the shelf that is being filled, in rows that were grown
};

}  // namespace vitrine::viz
