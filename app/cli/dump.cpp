// vitrine dump: logits and internals of a sequence, under the names of tests/golden.
#include <algorithm>
#include <cstdio>
#include <thread>

#include "app/cli/common.h"
#include "app/cli/dump_sink.h"
#include "app/cli/npz.h"
#include "app/cli/ranks.h"
#include "app/prompt.h"
#include "engine/base/json.h"
#include "engine/base/log.h"
#include "engine/base/reader.h"
#include "engine/comm/communicator.h"
#include "engine/model/config.h"
#include "engine/train/gradient_file.h"
#include "engine/weights/checkpoint.h"

namespace vitrine::cli {
namespace {

RenderedPrompt rendered(const Engine& engine, const std::string& text, const std::string& mode,
                        const std::string& system, bool is_raw) {
    if (is_raw) return render_plain(engine, text);
    ConversationTree tree;
    tree.system = system;
    Turn turn;
    turn.role = "user";
    turn.content = text;
    const int64_t asked = tree.add(std::move(turn));
    return render_prompt(engine, tree, asked, mode_from_name(mode));
}

void dump_gradients(const ModelArgs& m, const std::string& tokens, const std::string& dtype, const std::string& out) {
    const std::string folder = m.folder_or_shipped();
    const ModelConfig config = read_config(folder).config;
    const bool is_f64 = dtype == "f64";
    const TrainConfig c = plain_loss(is_f64 ? TrainDType::f64 : TrainDType::f32, tokens);
    const int n_cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    const int n_threads = m.threads ? static_cast<int>(m.threads) : n_cores;
    Trainer trainer(config, load_weights(folder, config), c, n_threads, m.gpu());
    const LossAndGradients result = trainer.gradients(trainer.data().batch(0));
    const std::vector<NamedGradient> gradients = gradients_by_file_name(trainer);
    std::vector<NamedArray> arrays = {{"loss", DType::f64, {1}, &result.loss, sizeof result.loss}};
    for (const NamedGradient& g : gradients) arrays.push_back({g.name, g.dtype, g.shape, g.bytes.data(), g.bytes.size()});
    write_safetensors(out, arrays);
    log_info("loss " + std::to_string(result.loss) + "; " + std::to_string(gradients.size()) + " gradients written to " + out);
}

// On rank 0, or in the only process.
int lead(const Args& args, Communicator& ranks) {
    ModelArgs model;
    std::string tokens, prompt, out, mode = "non-think", system;
    bool is_raw = false, is_gradients = false;
    std::string dtype = "f32";
    Options o("dump", "(--tokens FILE.json | -p TEXT) --out FILE [OPTIONS]",
              "Runs a sequence and writes input_ids, logits [T,V] and every probe as arrays: blocks.{i}.NAME [T,...], "
              "entries "
              "[S,...].\nShort rows are filled: -1 for ids, -inf for index scores, 0 for the rest.");
    add_model_options(o, model);
    o.text("--tokens", "FILE.json", &tokens, "a JSON list of token ids")
        .text("-p, --prompt", "TEXT", &prompt, "a user's message, rendered as chat -p renders it")
        .choice("--mode", kModeNames, &mode, "mode of the rendered prompt (non-think)")
        .text("-sys, --system", "TEXT", &system, "system text of the rendered prompt")
        .flag("--raw", &is_raw, "the text as it is, after the begin-of-sentence token")
        .flag("--gradients", &is_gradients,
              "instead: the gradient of the mean next-token loss, under the checkpoint's names, and `loss`")
        .choice("--dtype", {"f32", "f64"}, &dtype, "of the gradients and all arithmetic behind them (f32)")
        .text("-o, --out", "FILE", &out, "FILE.safetensors or FILE.npz");
    if (!o.parse(args)) return 0;
    if (o.was_given("--tokens") == o.was_given("--prompt")) throw UsageError("give either --tokens or -p");
    if (out.empty()) throw UsageError("missing --out FILE");
    const bool is_npz = out.ends_with(".npz");
    if (!is_npz && !out.ends_with(".safetensors"))
        throw UsageError("--out " + escaped(out) + ": expected a name ending in .safetensors or .npz");

    if (is_gradients) {
        if (ranks.size() > 1) throw UsageError("--gradients runs in one process");
        if (tokens.empty() || is_npz) throw UsageError("--gradients takes --tokens and writes .safetensors");
        return dump_gradients(model, tokens, dtype, out), 0;
    }
    if (o.was_given("--dtype")) throw UsageError("--dtype goes with --gradients");

    Interrupt interrupt;
    std::vector<int32_t> ids;
    if (!tokens.empty()) {
        const ModelConfig config = read_config(model.folder_or_shipped()).config;
        ids = read_token_file(tokens, config.vocab_size, 1);
        // The sequence is what was asked for, and nothing in the architecture ends there.
        if (model.context == 0 && static_cast<int64_t>(ids.size()) > config.max_position) {
            model.context = static_cast<int64_t>(ids.size());
            log_warning(tokens + ": " + std::to_string(ids.size()) + " tokens, the model's max_position_embeddings is " +
                        std::to_string(config.max_position));
        }
    }
    const auto engine = load_engine(model, ranks, tokens.empty());
    if (tokens.empty()) ids = rendered(*engine, prompt, mode, system, is_raw).ids();
    const auto session = engine->new_session();
    DumpSink sink;
    session->publish_to(&sink);
    engine->watch().set((ProbeSet{1} << kProbeCount) - 1);
    session->append(ids, interrupt.begin());
    interrupt.end();

    std::vector<NamedArray> arrays = sink.arrays(static_cast<int64_t>(ids.size()), engine->config());
    arrays.insert(arrays.begin(),
                  {"input_ids", DType::i32, {static_cast<int64_t>(ids.size())}, ids.data(), ids.size() * 4});
    if (is_npz)
        write_file_atomic(out, npz_bytes(arrays));
    else
        write_safetensors(out, arrays);
    log_info(std::to_string(arrays.size()) + " arrays of " + std::to_string(ids.size()) + " tokens written to " + out);
    return 0;
}

}  // namespace

int run_dump(const Args& args) {
    return with_started_ranks([&](Communicator& ranks) { return lead(args, ranks); });
}

}  // namespace vitrine::cli
