// OpenGL 1.1 calls for textures and read-back, and their stand-in without a GPU.
#include "viz/gl.h"

#include <GL/gl.h>

#include <algorithm>
#include <map>

#include "viz/imgui_compat.h"

namespace vitrine::viz {
namespace {

GlBackend g_backend = GlBackend::null;
constexpr unsigned kFirstNullName = 1000;  // 1 is the font atlas
unsigned g_next_null_name = kFirstNullName;
std::map<unsigned, Pixels>& null_textures() {
    static std::map<unsigned, Pixels> all;
    return all;
}

}  // namespace

void set_gl_backend(GlBackend b) { g_backend = b; }
GlBackend gl_backend() { return g_backend; }

Texture::~Texture() {
    if (name_ >= kFirstNullName && null_textures().erase(name_)) return;
    if (name_ && g_backend == GlBackend::opengl) glDeleteTextures(1, &name_);
}

ImTextureID Texture::id() const { return texture_id(name_); }

void Texture::upload(int width, int height, const uint32_t* rgba, bool is_smooth) {
    if (g_backend == GlBackend::null) {
        if (!name_) name_ = g_next_null_name++;
        null_textures()[name_] = {width, height, std::vector<uint32_t>(rgba, rgba + static_cast<size_t>(width) * height)};
        return;
    }
    GLint before = 0;
    glGetIntegerv(GL_TEXTURE_BINDING_2D, &before);
    if (!name_) glGenTextures(1, &name_);
    glBindTexture(GL_TEXTURE_2D, name_);
    const GLint filter = is_smooth ? GL_LINEAR : GL_NEAREST;
    if (width != width_ || height != height_) {
        glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, filter);
        glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAG_FILTER, filter);
        glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA8, width, height, 0, GL_RGBA, GL_UNSIGNED_BYTE, rgba);
    } else {
        glTexSubImage2D(GL_TEXTURE_2D, 0, 0, 0, width, height, GL_RGBA, GL_UNSIGNED_BYTE, rgba);
    }
    width_ = width, height_ = height;
    glBindTexture(GL_TEXTURE_2D, static_cast<GLuint>(before));
}

void update_texture_rows(ImTextureID id, int row, int n_rows, int width, const uint32_t* rgba) {
    if (g_backend == GlBackend::null) return;
    GLint before = 0;
    glGetIntegerv(GL_TEXTURE_BINDING_2D, &before);
    glBindTexture(GL_TEXTURE_2D, texture_name(id));
    glPixelStorei(GL_UNPACK_ROW_LENGTH, 0);
    glTexSubImage2D(GL_TEXTURE_2D, 0, 0, row, width, n_rows, GL_RGBA, GL_UNSIGNED_BYTE, rgba);
    glBindTexture(GL_TEXTURE_2D, static_cast<GLuint>(before));
}

const Pixels* null_texture(ImTextureID id) {
    const auto it = null_textures().find(texture_name(id));
    return it == null_textures().end() ? nullptr : &it->second;
}

Pixels read_framebuffer(int width, int height) {
    Pixels p{width, height, std::vector<uint32_t>(static_cast<size_t>(width) * height)};
    glPixelStorei(GL_PACK_ALIGNMENT, 1);
    glReadPixels(0, 0, width, height, GL_RGBA, GL_UNSIGNED_BYTE, p.rgba.data());
    for (int y = 0; y < height / 2; ++y)
        std::swap_ranges(p.rgba.begin() + static_cast<ptrdiff_t>(y) * width, p.rgba.begin() + static_cast<ptrdiff_t>(y + 1) * width,
                         p.rgba.begin() + static_cast<ptrdiff_t>(height - 1 - y) * width);
    for (uint32_t& c : p.rgba) c |= 0xFF000000u;
    return p;
}

}  // namespace vitrine::viz
