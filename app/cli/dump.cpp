// vitrine dump: logits and internals of a sequence, under the names of tests/golden.
#include <cstdio>

#include "app/cli/common.h"
#include "app/cli/dump_sink.h"
#include "app/cli/npz.h"
#include "app/prompt.h"
#include "engine/base/json.h"
#include "engine/base/log.h"
#include "engine/base/reader.h"

namespace vitrine::cli {
namespace {

std::vector<int32_t> ids_from_file(const std::string& file, int vocab_size) {
    const JsonLimits limits{.max_bytes = size_t{64} << 20, .max_depth = 4};
    const Json j = Json::parse(read_file(file, limits.max_bytes), file, limits);
    if (!j.is_array()) throw Error(ErrorKind::bad_input, escaped(file, 512) + ": expected a list of token ids");
    std::vector<int32_t> ids;
    std::vector<Issue> issues;
    for (const Json& x : j.items()) {
        const bool is_fine = x.type() == Json::Type::integer && x.as_int() >= 0 && x.as_int() < vocab_size;
        if (is_fine)
            ids.push_back(static_cast<int32_t>(x.as_int()));
        else
            issues.push_back({file, "[" + std::to_string(ids.size() + issues.size()) + "]", x.dump(),
                              "expected an integer in [0, " + std::to_string(vocab_size - 1) + "]", ""});
    }
    throw_if_any(issues);
    if (ids.empty()) throw Error(ErrorKind::bad_input, escaped(file, 512) + ": the list of token ids is empty");
    return ids;
}

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

}  // namespace

int run_dump(const Args& args) {
    ModelArgs model;
    std::string tokens, prompt, out, mode = "non-think", system;
    bool is_raw = false;
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
        .text("-o, --out", "FILE", &out, "FILE.safetensors or FILE.npz");
    if (!o.parse(args)) return 0;
    if (o.was_given("--tokens") == o.was_given("--prompt")) throw UsageError("give either --tokens or -p");
    if (out.empty()) throw UsageError("missing --out FILE");
    const bool is_npz = out.ends_with(".npz");
    if (!is_npz && !out.ends_with(".safetensors"))
        throw UsageError("--out " + escaped(out) + ": expected a name ending in .safetensors or .npz");

    Interrupt interrupt;
    const auto engine = load_engine(model);
    const std::vector<int32_t> ids = tokens.empty() ? rendered(*engine, prompt, mode, system, is_raw).ids()
                                                    : ids_from_file(tokens, engine->config().vocab_size);
    const auto session = engine->new_session();
    DumpSink sink;
    session->publish_to(&sink);
    engine->watch().set((ProbeSet{1} << kProbeCount) - 1);
    session->append(ids, interrupt.begin());
    interrupt.end();

    std::vector<NamedArray> arrays = sink.arrays(static_cast<int64_t>(ids.size()), engine->config().index_topk);
    arrays.insert(arrays.begin(),
                  {"input_ids", DType::i32, {static_cast<int64_t>(ids.size())}, ids.data(), ids.size() * 4});
    if (is_npz)
        write_file_atomic(out, npz_bytes(arrays));
    else
        write_safetensors(out, arrays);
    log_info(std::to_string(arrays.size()) + " arrays of " + std::to_string(ids.size()) + " tokens written to " + out);
    return 0;
}

}  // namespace vitrine::cli
