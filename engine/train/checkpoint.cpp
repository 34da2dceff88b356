// Checkpoints of a run.
#include "engine/train/checkpoint.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>

#include "engine/base/disk_full.h"
#include "engine/base/reader.h"
#include "engine/model/config.h"
#include "engine/model/roles.h"
#include "engine/telemetry/run_folder.h"
#include "engine/weights/checkpoint.h"

namespace vitrine {
namespace fs = std::filesystem;
namespace {

constexpr int kVersion = 1;
constexpr const char* kState = "state.safetensors";
constexpr const char* kModel = "model.safetensors";
constexpr uint64_t kMaxText = 64 << 20;

std::vector<int64_t> dims(const Shape& s) { return {s.n.begin(), s.n.begin() + s.rank}; }

void make_folder(const std::string& path) {
    std::error_code failed;
    fs::create_directories(path, failed);
    if (!failed) return;
    const std::string message = escaped(path, 512) + ": can't be created: " + failed.message();
    if (failed.value() == ENOSPC || failed.value() == EDQUOT) throw DiskFull(message);
    throw Error(ErrorKind::io, message);
}

// Masters and tables under their official names, the widest elements first, so that every tensor is aligned.
void write_weights(Trainer& t, const std::string& path) {
    std::vector<NamedArray> arrays;
    std::vector<std::vector<float>> narrowed;
    std::vector<HostBytes> kept;
    auto visit = [&](const std::string& name, Param& p, const Shape& shape, Storage storage) {
        if (p.empty()) return;
        if (storage == Storage::table) {
            kept.push_back(t.place().read({const_cast<void*>(p.view.data), p.view.dtype, shape}));
            arrays.push_back({name, p.view.dtype, dims(shape), kept.back().data, p.bytes()});
            return;
        }
        const auto n = static_cast<uint64_t>(shape.count());
        kept.push_back(t.place().read(p.master));
        const void* data = kept.back().data;
        if (p.master.dtype == DType::f64) {
            const double* x = p.master.as<double>();
            narrowed.emplace_back(x, x + n);
            data = narrowed.back().data();
        }
        arrays.push_back({name, DType::f32, dims(shape), data, n * 4});
    };
    auto& weights = const_cast<ModelWeights&>(t.weights());  // the list of roles visits places that could be written
    const bool has_mtp = !weights.mtp.empty();
    trunk_roles(weights, t.model(), visit);
    if (has_mtp) mtp_roles(weights, t.model(), visit);
    std::stable_sort(arrays.begin(), arrays.end(),
                     [](const NamedArray& a, const NamedArray& b) { return dtype_bits(a.dtype) > dtype_bits(b.dtype); });
    write_safetensors(path, arrays);
}

void write_state(const Trainer::State& state, bool with_weights, const std::string& path) {
    std::vector<NamedArray> arrays;
    for (const auto& a : state.arrays)
        if (with_weights || !a.name.starts_with("weight/")) arrays.push_back({a.name, a.dtype, a.shape, a.data, a.bytes});
    std::stable_sort(arrays.begin(), arrays.end(),
                     [](const NamedArray& a, const NamedArray& b) { return dtype_bits(a.dtype) > dtype_bits(b.dtype); });
    write_safetensors(path, arrays);
}

ModelConfig as_saved(const Trainer& t) {
    ModelConfig c = t.model();
    c.n_mtp_layers = static_cast<int>(t.weights().mtp.size());
    return c;
}

}  // namespace

void write_model(Trainer& trainer, const ModelTexts& texts, const std::string& folder) {
    make_folder(folder);
    write_weights(trainer, folder + "/" + kModel);
    for (const auto& [name, text] : texts.files) write_file_atomic(folder + "/" + name, text);
    Json config = Json::parse(config_to_json(as_saved(trainer)), "config.json");
    config.set("torch_dtype", "float32");
    write_file_atomic(folder + "/config.json", config.dump(1) + "\n");
}

void write_checkpoint(Trainer& trainer, const ModelTexts& texts, const std::string& folder) {
    const std::string bad = trainer.first_bad_weight();
    if (!bad.empty())
        throw Error(ErrorKind::internal, "step " + std::to_string(trainer.next_step()) + ": weight " + bad +
                                             " is not finite: no checkpoint was written");
    const std::string manifest = folder + "/" + run_folder::kManifest;
    std::error_code failed;
    fs::remove(manifest, failed);
    write_model(trainer, texts, folder);
    const Trainer::State state = trainer.state();
    write_state(state, trainer.config().dtype == TrainDType::f64, folder + "/" + kState);
    Json files = Json::object(), j = Json::object();
    for (const auto& e : fs::directory_iterator(folder)) {
        const std::string name = e.path().filename().string();
        if (name.find(".tmp-") != std::string::npos)
            fs::remove(e.path(), failed);  // of a process that was killed here
        else
            files.set(name, static_cast<int64_t>(e.file_size()));
    }
    j.set("version", kVersion), j.set("step", trainer.next_step());
    j.set("files", std::move(files)), j.set("state", state.rest);
    write_file_atomic(manifest, j.dump(1) + "\n");
}

LoadedCheckpoint read_checkpoint(const std::string& folder, int n_threads, int gpu, Communicator* ranks) {
    const std::string manifest = folder + "/" + run_folder::kManifest;
    const Json j = Json::parse(read_file(manifest, kMaxText), manifest, {.max_bytes = kMaxText});
    if (j.at("version").as_int() != kVersion)
        throw_if_any({{manifest, "version", j.at("version").dump(), "expected " + std::to_string(kVersion), ""}});
    for (const auto& [name, bytes] : j.at("files").members()) {
        std::error_code failed;
        const auto found = bad_file_name_reason(name).empty() ? fs::file_size(folder + "/" + name, failed) : 0;
        if (failed || found != bytes.as_uint())
            throw_if_any({{folder + "/" + name, "", failed ? "(missing)" : std::to_string(found) + " bytes",
                           "expected " + bytes.dump() + " bytes, by " + run_folder::kManifest, ""}});
    }
    LoadedCheckpoint c;
    c.model = read_config(folder).config;
    const Json& state = j.at("state");
    c.config = train_config_from_json(state.at("config"), manifest);
    c.step = j.at("step").as_int();
    c.trainer = std::make_unique<Trainer>(c.model, load_weights(folder, c.model), c.config, n_threads, gpu, ranks);
    std::map<std::string, Trainer::State::Array> arrays;
    auto add = [&](const std::string& name, const RawTensor& t) { arrays[name] = {name, t.dtype, t.shape, t.data, t.bytes}; };
    const auto weights = read_safetensors(folder + "/" + kModel), rest = read_safetensors(folder + "/" + kState);
    for (const RawTensor& t : weights) add("weight/" + t.name, t);
    for (const RawTensor& t : rest) add(t.name, t);
    c.trainer->restore(arrays, state, folder);
    return c;
}

std::string fingerprint_of_weights(const std::string& folder) {
    std::string all;
    for (const auto& [name, t] : read_folder(folder))
        all += name + " " + dtype_name(t.dtype) + " " + shape_text(t.shape) + " " +
               fingerprint_of({reinterpret_cast<const char*>(t.data), t.bytes}) + "\n";
    return fingerprint_of(all);
}

std::string checkpoint_folder(const std::string& run, int64_t step) {
    return run + "/" + run_folder::kCheckpoints + "/" + std::to_string(step);
}

std::vector<int64_t> checkpoint_steps(const std::string& run) {
    std::vector<int64_t> steps;
    std::error_code failed;
    for (const auto& e : fs::directory_iterator(run + "/" + run_folder::kCheckpoints, failed)) {
        const std::string name = e.path().filename().string();
        int64_t step = 0;
        const auto [end, wrong] = std::from_chars(name.data(), name.data() + name.size(), step);
        if (wrong == std::errc() && end == name.data() + name.size() && fs::exists(e.path() / run_folder::kManifest, failed))
            steps.push_back(step);
    }
    std::sort(steps.begin(), steps.end());
    return steps;
}

void remove_checkpoint(const std::string& folder) {
    std::error_code ignored;
    fs::remove(folder + "/" + run_folder::kManifest, ignored);  // from here on it does not count
    fs::remove_all(folder, ignored);
}

}  // namespace vitrine
