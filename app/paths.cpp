// Where things live on disk.
#include "app/paths.h"

#include <cstdlib>
#include <filesystem>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/reader.h"

namespace vitrine {
namespace fs = std::filesystem;
namespace {

std::string environment(const char* name) {
    const char* v = std::getenv(name);
    return v ? v : "";
}

std::string xdg(const char* variable, const char* under_home) {
    const std::string v = environment(variable);
    if (!v.empty() && v[0] == '/') return v + "/vitrine";
    const std::string home = environment("HOME");
    if (home.empty() || home[0] != '/')
        throw Error(ErrorKind::io,
                    std::string("no folder for Vitrine's files: set ") + variable + " or HOME to an absolute path");
    return home + "/" + under_home + "/vitrine";
}

// Folders that may hold assets/, nearest to the executable first.
std::vector<fs::path> asset_roots() {
    std::vector<fs::path> roots;
    std::error_code failed;
    const fs::path exe = fs::read_symlink("/proc/self/exe", failed);
    if (!failed) {
        const fs::path bin = exe.parent_path();
        roots.push_back(bin.parent_path() / "share" / "vitrine" / "assets");  // installed, packaged
        roots.push_back(bin / "assets");
        roots.push_back(bin.parent_path() / "assets");
    }
    roots.push_back(fs::path(VITRINE_SOURCE_DIR) / "assets");  // run from the tree it was built in
    return roots;
}

}  // namespace

std::string config_folder() {
    return xdg("XDG_CONFIG_HOME", ".config");
}
std::string data_folder() {
    return xdg("XDG_DATA_HOME", ".local/share");
}
std::string state_folder() {
    return xdg("XDG_STATE_HOME", ".local/state");
}
std::string cache_folder() {
    return xdg("XDG_CACHE_HOME", ".cache");
}

std::string make_folder(const std::string& path) {
    std::error_code failed;
    const bool is_new = fs::create_directories(path, failed);
    if (failed) throw Error(ErrorKind::io, escaped(path, 512) + ": can't create the folder: " + failed.message());
    if (!fs::is_directory(path, failed)) throw Error(ErrorKind::io, escaped(path, 512) + ": exists but is no folder");
    if (is_new)
        fs::permissions(path, fs::perms::owner_all, failed);  // conversations are private; a failure leaves the default
    return path;
}

std::string temporary_folder(const std::string& name) {
    std::error_code failed;
    std::string pattern = (fs::temp_directory_path(failed) / (name + "-XXXXXX")).string();
    if (failed || !mkdtemp(pattern.data()))
        throw Error(ErrorKind::io, escaped(pattern, 512) + ": can't create a temporary folder");
    return pattern;
}

std::string asset(const std::string& relative) {
    std::string tried;
    for (const fs::path& root : asset_roots()) {
        std::error_code failed;
        const fs::path p = root / relative;
        if (fs::exists(p, failed)) return p.lexically_normal().string();
        tried += "\n  " + p.string();
    }
    throw Error(ErrorKind::io, "assets/" + relative + " was not found; tried:" + tried);
}

std::string shipped_model() {
    return asset("models/nano");
}

bool has_tokenizer_of_curriculum(const std::string& folder) {
    constexpr size_t kMaxBytes = size_t{4} << 20;
    try {
        return read_file(folder + "/tokenizer.json", kMaxBytes) == read_file(asset("curriculum/tokenizer.json"), kMaxBytes);
    } catch (const Error&) {
        return false;  // one of them is not there, or is far larger than the curriculum's
    }
}

bool has_display() {
    return !environment("DISPLAY").empty() || !environment("WAYLAND_DISPLAY").empty();
}

}  // namespace vitrine
