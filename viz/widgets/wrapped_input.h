// A field for text of many lines that wraps: Dear ImGui has none before 1.92.3. The field edits a copy with line breaks
// at its width; the caller's text never holds them.
#pragma once
#include <imgui.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine::viz::ui {

// `text` broken to lines of at most `width` [px] in the current font: after blanks, between Chinese characters, else
// where it must. A soft break at a blank replaces it, so that most breaks move no character.
struct SoftBreak {
    size_t at = 0;          // of its '\n' in the wrapped text
    bool is_blank = false;  // stands for a ' '
};
struct Wrapped {
    std::string text;
    std::vector<SoftBreak> breaks;  // ascending
    // The text without its soft breaks, of the bytes [begin, end).
    std::string plain(size_t begin = 0, size_t end = std::string::npos) const;
    size_t to_plain(size_t at) const;  // where a place of the wrapped text lies in the plain one, and back
    size_t from_plain(size_t at) const;
};
Wrapped wrap_text(std::string_view text, float width);

class WrappedInput {
  public:
    // Returns true when text changed. `filter` (may be null) sees every typed character and swallows it by returning
    // true.
    bool draw(const char* id, std::string& text, ImVec2 size, const std::function<bool(unsigned)>& filter = {});
    int n_lines() const;  // as wrapped when drawn last

  private:
    static int on_event(ImGuiInputTextCallbackData* data);
    void edited(ImGuiInputTextCallbackData* data);
    void rewrite(ImGuiInputTextCallbackData* data, const std::string& plain, size_t plain_cursor);
    Wrapped shown_;
    std::string plain_;
    float width_ = 0, wrapped_for_ = -1;
    size_t cursor_ = 0, selection_[2] = {0, 0};  // of the frame before
    bool was_rewritten_ = false;
    const std::function<bool(unsigned)>* filter_ = nullptr;
};

}  // namespace vitrine::viz::ui
