// One source for Dear ImGui 1.86, 1.90 and 1.92: every symbol that differs between them is named here and nowhere else.
#pragma once
#include <imgui.h>
#include <imgui_stdlib.h>

#include <cstdint>

#if IMGUI_VERSION_NUM < 18600
#error "Vitrine needs Dear ImGui 1.86 or newer (libimgui-dev)"
#endif

namespace vitrine::viz {

inline constexpr bool kHasDynamicFonts = IMGUI_VERSION_NUM >= 19200;

// ImTextureID is a pointer up to 1.91.3 and an integer afterwards; only the C cast compiles with both.
inline ImTextureID texture_id(unsigned gl_name) {
    return (ImTextureID)(std::intptr_t)gl_name;
}
inline unsigned texture_name(ImTextureID id) {
    return (unsigned)(std::intptr_t)id;
}

// ---- keys: native GLFW codes on 1.86, ImGuiKey afterwards. IsKeyPressed(ImGuiKey_X) compiles on 1.86 and is wrong
// there.
#define VITRINE_KEYS(X)                                                                                                \
    X(Enter, 257)                                                                                                      \
    X(Escape, 256)                                                                                                     \
    X(Tab, 258) X(Backspace, 259) X(Delete, 261) X(Space, 32) X(LeftArrow, 263) X(RightArrow, 262) X(UpArrow, 265)     \
        X(DownArrow, 264) X(Home, 268) X(End, 269) X(PageUp, 266) X(PageDown, 267) X(F1, 290) X(F2, 291) X(F5, 294)    \
            X(F11, 300) X(F12, 301) X(A, 65) X(B, 66) X(C, 67) X(D, 68) X(E, 69) X(F, 70) X(G, 71) X(H, 72) X(I, 73)   \
                X(J, 74) X(K, 75) X(L, 76) X(M, 77) X(N, 78) X(O, 79) X(P, 80) X(Q, 81) X(R, 82) X(S, 83) X(T, 84)     \
                    X(U, 85) X(V, 86) X(W, 87) X(X, 88) X(Y, 89) X(Z, 90) X(0, 48) X(1, 49) X(2, 50) X(3, 51) X(4, 52) \
                        X(5, 53) X(6, 54) X(7, 55) X(8, 56) X(9, 57) X(Minus, 45) X(Equal, 61) X(Slash, 47)            \
                            X(Comma, 44)
enum class Key : int {
#if IMGUI_VERSION_NUM >= 18700
#define X(n, glfw) k##n = ImGuiKey_##n,
#else
#define X(n, glfw) k##n = glfw,
#endif
    VITRINE_KEYS(X)
#undef X
};
#if IMGUI_VERSION_NUM >= 18700
inline ImGuiKey native_key(Key k) {
    return static_cast<ImGuiKey>(k);
}
#else
inline int native_key(Key k) {
    return static_cast<int>(k);
}
#endif
inline bool key_pressed(Key k, bool repeat = true) {
    return ImGui::IsKeyPressed(native_key(k), repeat);
}

enum Mod : int { kNoMod = 0, kCtrl = 1, kShift = 2, kAlt = 4 };
inline int current_mods() {
    const ImGuiIO& io = ImGui::GetIO();
    return (io.KeyCtrl ? kCtrl : 0) | (io.KeyShift ? kShift : 0) | (io.KeyAlt ? kAlt : 0);
}

// ---- input by program (tests, scripts)
void feed_mouse(float x, float y);
void feed_button(int button, bool is_down);
void feed_wheel(float dy);
void feed_mods(int mods);
void feed_key(Key k, bool is_down);
// A platform without a window: the key map on 1.86, the texture flag on 1.92. After fonts were added.
void null_platform_init();
// Answers texture requests of 1.92 when nothing renders; nothing to do before.
void null_render();

// ---- focus: the item that follows gets the keyboard
void focus_next_item();

// ---- the current window is drawn over all others
void raise_window();

// ---- the item drawn last uses the wheel: nothing around it scrolls
void use_wheel_on_last_item();

// ---- the active text field forgets its own undo: before 1.90 it does not know that a callback moved text
void forget_text_undo();

// ---- a clipper draws these rows too, wherever they are
inline void include_rows(ImGuiListClipper& clipper, int begin, int end) {
#if IMGUI_VERSION_NUM >= 18990
    clipper.IncludeItemsByIndex(begin, end);
#else
    clipper.ForceDisplayRangeByIndices(begin, end);
#endif
}
inline ImTextureID font_texture() {
#if IMGUI_VERSION_NUM >= 19200
    return ImGui::GetIO().Fonts->TexRef.GetTexID();
#else
    return ImGui::GetIO().Fonts->TexID;
#endif
}

// ---- layout
inline bool begin_child(const char* id, ImVec2 size, bool has_border = false, ImGuiWindowFlags flags = 0) {
    return ImGui::BeginChild(id, size, has_border ? 1 : 0, flags);  // 1: `true`, and ImGuiChildFlags_Border(s)
}
inline void allow_overlap_next() {  // before the item that others may cover
#if IMGUI_VERSION_NUM >= 18970
    ImGui::SetNextItemAllowOverlap();
#endif
}
inline void allow_overlap_last() {  // after it
#if IMGUI_VERSION_NUM < 18970
    ImGui::SetItemAllowOverlap();
#endif
}
#if IMGUI_VERSION_NUM >= 19050
inline constexpr ImGuiCol kColTabSelected = ImGuiCol_TabSelected;
inline constexpr ImGuiCol kColNavCursor = ImGuiCol_NavCursor;
#else
inline constexpr ImGuiCol kColTabSelected = ImGuiCol_TabActive;
inline constexpr ImGuiCol kColNavCursor = ImGuiCol_NavHighlight;
#endif

// ---- fonts
inline float glyph_advance(unsigned code_point) {  // in the current font and size
#if IMGUI_VERSION_NUM >= 19200
    return ImGui::GetFontBaked()->GetCharAdvance(static_cast<ImWchar>(code_point));
#else
    const ImFont* f = ImGui::GetFont();
    return f->GetCharAdvance(static_cast<ImWchar>(code_point)) * (ImGui::GetFontSize() / f->FontSize);
#endif
}
// Where the first line of [at, end) ends when it may be `width` wide.
inline const char* word_wrap(const char* at, const char* end, float width) {
#if IMGUI_VERSION_NUM >= 19200
    return ImGui::GetFont()->CalcWordWrapPosition(ImGui::GetFontSize(), at, end, width);
#else
    return ImGui::GetFont()->CalcWordWrapPositionA(ImGui::GetFontSize() / ImGui::GetFont()->FontSize, at, end, width);
#endif
}
inline void push_imgui_font(ImFont* f, [[maybe_unused]] float size) {
#if IMGUI_VERSION_NUM >= 19200
    ImGui::PushFont(f, size);
#else
    ImGui::PushFont(f);
#endif
}

}  // namespace vitrine::viz
