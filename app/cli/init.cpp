// vitrine init: a checkpoint with random weights, or another's in another number format.
#include "engine/model/init.h"

#include <unistd.h>

#include <cstdio>

#include "app/cli/common.h"
#include "engine/base/log.h"

namespace vitrine::cli {

int run_init(const Args& args) {
    std::string preset, from, weights, out;
    uint64_t seed = 0;
    int64_t shard_mb = 2000;
    std::vector<std::string> names;
    std::string list;
    for (const Preset& p : presets()) {
        names.emplace_back(p.name);
        list += std::string("\n  ") + p.name + ": " + p.what + " (" + weights_format_name(p.format) + ")";
    }
    Options o("init", "(--preset NAME | --from DIR) --out DIR [OPTIONS]",
              "Writes a checkpoint with random weights, or the weights of another one in another number format. Presets (and their "
              "usual\nweights):" + list);
    o.choice("--preset", names, &preset, "shape of the model")
        .text("--from", "DIR", &from, "checkpoint to write again as --weights says")
        .text("-o, --out", "DIR", &out, "folder to write; must not hold a model")
        .counter("--seed", &seed, "the same seed gives the same bytes (0)")
        .choice("--weights", {"f32", "bf16", "fp8", "official"}, &weights,
                "number format; official: FP8 projections and FP4 experts")
        .integer("--shard-mb", 1, 1000000, &shard_mb, "most MB of tensors in one file (2000)");
    if (!o.parse(args)) return 0;
    if (preset.empty() == from.empty()) throw UsageError("give either --preset NAME or --from DIR");
    if (!from.empty() && weights.empty()) throw UsageError("--from needs --weights");
    if (out.empty()) throw UsageError("missing --out DIR");

    Interrupt interrupt;
    InitOptions options;
    options.stop = interrupt.begin();
    options.shard_bytes = static_cast<uint64_t>(shard_mb) * 1000000;
    int last = -1;
    if (isatty(STDERR_FILENO))
        options.report = [&last](uint64_t done, uint64_t total) {
            const int percent =
                total ? static_cast<int>(100.0 * static_cast<double>(done) / static_cast<double>(total)) : 100;
            if (percent != last)
                std::fprintf(stderr, "\r%3d %% of %s", last = percent, human_bytes(static_cast<double>(total)).c_str());
            if (done == total) std::fputc('\n', stderr);
        };
    if (!from.empty()) {
        repack_checkpoint(from, weights_format_from_name(weights), out, options);
        log_info(from + " as " + weights + " written to " + out);
        return 0;
    }
    const WeightsFormat format = weights.empty() ? preset_format(preset) : weights_format_from_name(weights);
    init_checkpoint(preset, seed, format, out, options);
    log_info(preset + " (" + weights_format_name(format) + ", seed " + std::to_string(seed) + ") written to " + out);
    return 0;
}

}  // namespace vitrine::cli
