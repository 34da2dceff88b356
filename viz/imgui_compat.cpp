// Input by program and the null platform, for each Dear ImGui that Debian ships.
#include "viz/imgui_compat.h"

#include <imgui_internal.h>

namespace vitrine::viz {

void feed_mouse(float x, float y) {
#if IMGUI_VERSION_NUM >= 18700
    ImGui::GetIO().AddMousePosEvent(x, y);
#else
    ImGui::GetIO().MousePos = ImVec2(x, y);
#endif
}

void feed_button(int button, bool is_down) {
#if IMGUI_VERSION_NUM >= 18700
    ImGui::GetIO().AddMouseButtonEvent(button, is_down);
#else
    ImGui::GetIO().MouseDown[button] = is_down;
#endif
}

void feed_wheel(float dy) {
#if IMGUI_VERSION_NUM >= 18700
    ImGui::GetIO().AddMouseWheelEvent(0, dy);
#else
    ImGui::GetIO().MouseWheel += dy;
#endif
}

void feed_mods(int mods) {
    ImGuiIO& io = ImGui::GetIO();
#if IMGUI_VERSION_NUM >= 18900
    io.AddKeyEvent(ImGuiMod_Ctrl, (mods & kCtrl) != 0);
    io.AddKeyEvent(ImGuiMod_Shift, (mods & kShift) != 0);
    io.AddKeyEvent(ImGuiMod_Alt, (mods & kAlt) != 0);
#else
    io.KeyCtrl = (mods & kCtrl) != 0;
    io.KeyShift = (mods & kShift) != 0;
    io.KeyAlt = (mods & kAlt) != 0;
#endif
}

void feed_key(Key k, bool is_down) {
#if IMGUI_VERSION_NUM >= 18700
    ImGui::GetIO().AddKeyEvent(native_key(k), is_down);
#else
    ImGui::GetIO().KeysDown[native_key(k)] = is_down;
#endif
}

void null_platform_init() {
    ImGuiIO& io = ImGui::GetIO();
#if IMGUI_VERSION_NUM < 18700
    const struct {
        int imgui;
        Key key;
    } map[] = {{ImGuiKey_Tab, Key::kTab},           {ImGuiKey_LeftArrow, Key::kLeftArrow}, {ImGuiKey_RightArrow, Key::kRightArrow},
               {ImGuiKey_UpArrow, Key::kUpArrow},   {ImGuiKey_DownArrow, Key::kDownArrow}, {ImGuiKey_PageUp, Key::kPageUp},
               {ImGuiKey_PageDown, Key::kPageDown}, {ImGuiKey_Home, Key::kHome},           {ImGuiKey_End, Key::kEnd},
               {ImGuiKey_Delete, Key::kDelete},     {ImGuiKey_Backspace, Key::kBackspace}, {ImGuiKey_Space, Key::kSpace},
               {ImGuiKey_Enter, Key::kEnter},       {ImGuiKey_Escape, Key::kEscape},       {ImGuiKey_A, Key::kA},
               {ImGuiKey_C, Key::kC},               {ImGuiKey_V, Key::kV},                 {ImGuiKey_X, Key::kX},
               {ImGuiKey_Y, Key::kY},               {ImGuiKey_Z, Key::kZ}};
    for (const auto& m : map) io.KeyMap[m.imgui] = native_key(m.key);
#endif
#if IMGUI_VERSION_NUM >= 19200
    io.BackendFlags |= ImGuiBackendFlags_RendererHasTextures;
#endif
    (void)io;
}

void null_render() {
#if IMGUI_VERSION_NUM >= 19200
    for (ImTextureData* t : ImGui::GetPlatformIO().Textures) {
        if (t->Status == ImTextureStatus_WantCreate || t->Status == ImTextureStatus_WantUpdates) {
            t->SetTexID(texture_id(1));
            t->SetStatus(ImTextureStatus_OK);
        } else if (t->Status == ImTextureStatus_WantDestroy) {
            t->SetTexID(ImTextureID_Invalid);
            t->SetStatus(ImTextureStatus_Destroyed);
        }
    }
#endif
}

void raise_window() {
    ImGui::BringWindowToDisplayFront(ImGui::GetCurrentWindow());
}

void use_wheel_on_last_item() {
#if IMGUI_VERSION_NUM >= 18900
    ImGui::SetItemKeyOwner(ImGuiKey_MouseWheelY);
#else
    ImGui::SetItemUsingMouseWheel();
#endif
}

void forget_text_undo() {
#if IMGUI_VERSION_NUM < 19000
    auto& undo = ImGui::GetCurrentContext()->InputTextState.Stb.undostate;
    undo.undo_point = undo.undo_char_point = 0;
    undo.redo_point = STB_TEXTEDIT_UNDOSTATECOUNT, undo.redo_char_point = STB_TEXTEDIT_UNDOCHARCOUNT;
#endif
}

void focus_next_item() {
#if IMGUI_VERSION_NUM >= 19000 && IMGUI_VERSION_NUM < 19100
    // 1.90 looks for the item in the focus scope of whoever had the keyboard, which in a new window is nobody.
    ImGuiContext& g = *ImGui::GetCurrentContext();
    g.NavFocusScopeId = g.CurrentFocusScopeId;
#endif
    ImGui::SetKeyboardFocusHere();
}

}  // namespace vitrine::viz
