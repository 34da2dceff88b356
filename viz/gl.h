// The only place that talks to OpenGL: textures of widgets and reading the frame back. With the null backend textures are kept
// as pixels in memory, so that everything draws headless and a software renderer can show them.
#pragma once
#include <imgui.h>

#include <cstdint>
#include <vector>

namespace vitrine::viz {

enum class GlBackend { null, opengl };
void set_gl_backend(GlBackend b);  // once, before the first texture
GlBackend gl_backend();

struct Pixels {
    int width = 0, height = 0;
    std::vector<uint32_t> rgba;  // rows from the top, 0xAABBGGRR
};

// One RGBA texture. UI thread only; must die before the GL context.
class Texture {
  public:
    Texture() = default;
    ~Texture();
    Texture(const Texture&) = delete;
    Texture& operator=(const Texture&) = delete;
    void upload(int width, int height, const uint32_t* rgba, bool is_smooth = false);
    ImTextureID id() const;
    bool empty() const { return name_ == 0; }

  private:
    unsigned name_ = 0;
    int width_ = 0, height_ = 0;
};

// Some rows of a texture that is not ours (the font atlas); nothing to do with the null backend.
void update_texture_rows(ImTextureID id, int row, int n_rows, int width, const uint32_t* rgba);
const Pixels* null_texture(ImTextureID id);  // of the null backend; nullptr when unknown
Pixels read_framebuffer(int width, int height);

}  // namespace vitrine::viz
