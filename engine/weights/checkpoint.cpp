// A checkpoint folder: which files belong to it, where links may lead, and every tensor exactly once.
#include "engine/weights/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "engine/base/bad_path.h"
#include "engine/base/json.h"
#include "engine/base/stop.h"

namespace vitrine {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxIndexBytes = 64 << 20;
constexpr size_t kMaxShards = 4096, kMaxTensors = 1'000'000;
constexpr const char *kSingle = "model.safetensors", *kIndex = "model.safetensors.index.json";

bool is_inside(const fs::path& path, const fs::path& root) {
    const auto [r, p] = std::mismatch(root.begin(), root.end(), path.begin(), path.end());
    return r == root.end() && p != path.end();
}

// A Hugging Face cache keeps models--ORG--NAME/snapshots/REV/FILE as links to ../../blobs/HASH: there the whole
// models-- folder is the model's.
fs::path model_root(const fs::path& canonical_folder) {
    fs::path root;
    for (const fs::path& part : canonical_folder) {
        root /= part;
        if (part.string().rfind("models--", 0) == 0) return root;
    }
    return canonical_folder;
}

// The real path of folder/name, which must lie inside the model's root. `name` is one component or already checked.
std::string resolve(const std::string& folder, const std::string& name) {
    const std::string shown = (fs::path(folder) / name).string();
    std::error_code error;
    const fs::path real_folder = fs::canonical(folder, error);
    if (error) throw Error(ErrorKind::io, escaped(folder, 512) + ": can't be opened: " + error.message());
    const fs::path real = fs::canonical(real_folder / name, error);
    if (error) throw Error(ErrorKind::io, escaped(shown, 512) + ": can't be opened: " + error.message());
    const fs::path root = model_root(real_folder);
    if (!is_inside(real, root))
        throw_if_any({{shown, "", real.string(), "expected the link to end inside the model's folder", ""}});
    return real.string();
}

std::vector<RawTensor> read_one(const std::string& folder, const std::string& name) {
    return read_safetensors(MappedFile::open(resolve(folder, name), (fs::path(folder) / name).string()));
}

void insert_all(std::map<std::string, RawTensor>& all, std::vector<RawTensor> tensors, std::vector<Issue>& issues) {
    for (RawTensor& t : tensors) {
        std::string name = t.name, file = t.file->path();
        const auto [at, is_new] = all.try_emplace(std::move(name), std::move(t));
        if (!is_new)
            issues.push_back({file, at->first, "a second time", "expected it only in " + at->second.file->path(), ""});
    }
    if (all.size() > kMaxTensors)
        issues.push_back({"", "", std::to_string(all.size()) + " tensors", "expected at most 1000000 in a model", ""});
}

std::map<std::string, RawTensor> read_indexed(const std::string& folder, const std::stop_token& stop) {
    const std::string shown = (fs::path(folder) / kIndex).string();
    JsonLimits limits;
    limits.max_bytes = kMaxIndexBytes, limits.max_depth = 4;
    const Json index = Json::parse(read_file(resolve(folder, kIndex), kMaxIndexBytes), shown, limits);
    const Json* map = index.find("weight_map");
    if (!map || !map->is_object() || map->size() == 0)
        throw_if_any({{shown, "weight_map", map ? map->type_name() : "nothing",
                       "expected an object that gives each tensor its file", map ? map->where() : ""}});
    std::vector<Issue> issues;
    std::set<std::string> shards;
    for (const auto& [name, file] : map->members()) {
        if (!file.is_string()) {
            issues.push_back({shown, "weight_map." + name, file.type_name(), "expected a file name", file.where()});
        } else if (const std::string reason = bad_file_name_reason(file.as_string()); !reason.empty()) {
            issues.push_back({shown, "weight_map." + name, file.as_string(), "expected " + reason, file.where()});
        } else if (!file.as_string().ends_with(".safetensors")) {
            issues.push_back({shown, "weight_map." + name, file.as_string(),
                              "expected a .safetensors file (pickled weights can run code and are never read)",
                              file.where()});
        } else {
            shards.insert(file.as_string());
        }
    }
    if (shards.size() > kMaxShards)
        issues.push_back({shown, "weight_map", std::to_string(shards.size()) + " files", "expected at most 4096", ""});
    throw_if_any(issues);
    std::map<std::string, RawTensor> all;
    for (const std::string& shard : shards) {
        throw_if_stopped(stop);
        try {
            insert_all(all, read_one(folder, shard), issues);
        } catch (const Error& e) {
            if (e.kind() != ErrorKind::io && !dynamic_cast<const BadPath*>(&e)) throw;
            throw Error(e.kind(), std::string(e.what()) + " (named in " + kIndex + ")");
        }
        throw_if_any(issues);
    }
    for (const auto& [name, file] : map->members()) {
        const auto at = all.find(name);
        const std::string expected = (fs::path(folder) / file.as_string()).string();
        if (at == all.end())
            issues.push_back({shown, "weight_map." + name, file.as_string(),
                              "expected the tensor in that file, it is not there", file.where()});
        else if (at->second.file->path() != expected)
            issues.push_back({shown, "weight_map." + name, file.as_string(),
                              "found the tensor in " + at->second.file->path(), file.where()});
    }
    throw_if_any(issues);
    return all;
}

}  // namespace

std::map<std::string, RawTensor> read_folder(const std::string& folder, const std::stop_token& stop) {
    throw_if_stopped(stop);
    std::error_code error;
    if (!fs::is_directory(folder, error))
        throw Error(ErrorKind::io, escaped(folder, 512) +
                                       ": expected a folder that holds config.json and *.safetensors" +
                                       (fs::exists(folder, error) ? ", found a file" : ", it does not exist"));
    const auto has = [&](const char* name) {
        return fs::symlink_status(fs::path(folder) / name, error).type() != fs::file_type::not_found;
    };
    const bool single = has(kSingle), indexed = has(kIndex);
    if (single && indexed)
        throw_if_any({{folder, "", std::string(kSingle) + " and " + kIndex,
                       "expected one of them: which holds the model?", ""}});
    if (indexed) return read_indexed(folder, stop);
    if (!single) {
        bool pickled = false;
        for (const auto& entry : fs::directory_iterator(folder, error)) {
            const std::string e = entry.path().extension().string();
            pickled = pickled || e == ".bin" || e == ".pt" || e == ".pth" || e == ".ckpt";
        }
        throw Error(ErrorKind::io,
                    escaped(folder, 512) + ": expected " + kSingle + " or " + kIndex + ", found neither" +
                        (pickled ? " (pickled weights, .bin .pt .pth .ckpt, can run code and are never read)" : ""));
    }
    std::vector<Issue> issues;
    std::map<std::string, RawTensor> all;
    insert_all(all, read_one(folder, kSingle), issues);
    throw_if_any(issues);
    return all;
}

}  // namespace vitrine
