// A plausible snapshot without an engine.
#include "tests/viz/fake_feed.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace vitrine::viz::fake {
namespace {

// splitmix64 of the coordinates: the same numbers on every machine.
double unit(uint64_t a, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0) {
    uint64_t z = a * 0x9E3779B97F4A7C15ull + b * 0xBF58476D1CE4E5B9ull + c * 0x94D049BB133111EBull + d * 0xD6E8FEB86659FD93ull + 1;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

std::vector<float> shares(int n, double total, uint64_t a, uint64_t b, uint64_t c, double sharpness = 3) {
    std::vector<float> out(static_cast<size_t>(std::max(0, n)));
    double sum = 0;
    for (size_t i = 0; i < out.size(); ++i) sum += out[i] = static_cast<float>(std::exp(sharpness * unit(a, b, c, i)));
    for (float& v : out) v = static_cast<float>(v / sum * total);
    return out;
}

std::vector<float> doubly_stochastic(int n, uint64_t a, uint64_t b, uint64_t c) {
    std::vector<float> m(static_cast<size_t>(n) * n);
    for (int r = 0; r < n; ++r)
        for (int k = 0; k < n; ++k)
            m[r * n + k] = static_cast<float>(std::exp(2.5 * unit(a, b, c, r * n + k) + (r == k ? 1.5 : 0)));
    for (int it = 0; it < 20; ++it)
        for (int axis = 0; axis < 2; ++axis)
            for (int r = 0; r < n; ++r) {
                float sum = 0;
                for (int k = 0; k < n; ++k) sum += axis ? m[k * n + r] : m[r * n + k];
                for (int k = 0; k < n; ++k) (axis ? m[k * n + r] : m[r * n + k]) /= sum;
            }
    return m;
}

struct Writer {
    RecordBuilder& b;
    void f(Probe p, int layer, const std::vector<float>& v, int rows = 1) const {
        b.put(0, p, layer, v.data(), rows, static_cast<int>(v.size()) / rows);
    }
    void i(Probe p, int layer, const std::vector<int32_t>& v) const { b.put(0, p, layer, v.data(), 1, static_cast<int>(v.size())); }
};

void put_streams(const Writer& w, const Shape& s, int layer, uint64_t t) {
    const int n = s.n_streams;
    w.f(kAttnHcPre, layer, shares(n, 1, t, layer, 1)), w.f(kAttnHcPost, layer, shares(n, 2, t, layer, 2));
    w.f(kAttnHcComb, layer, doubly_stochastic(n, t, layer, 3), n);
    w.f(kMlpHcPre, layer, shares(n, 1, t, layer, 4)), w.f(kMlpHcPost, layer, shares(n, 2, t, layer, 5));
    w.f(kMlpHcComb, layer, doubly_stochastic(n, t, layer, 6), n);
    std::vector<float> norms(n), similarity(static_cast<size_t>(n) * n, 1.0f);
    for (int i = 0; i < n; ++i) {
        norms[i] = static_cast<float>((3 + layer) * (0.8 + 0.5 * unit(t, layer, 7, i)));
        for (int k = 0; k < i; ++k)
            similarity[i * n + k] = similarity[k * n + i] = static_cast<float>(1.4 * unit(t, layer, 8, i * n + k) - 0.4);
    }
    w.f(kStreamNorms, layer, norms), w.f(kStreamSimilarity, layer, similarity, n);
}

void put_attention(const Writer& w, const Shape& s, const LayerConfig& l, int layer, uint64_t t) {
    const auto n_window = static_cast<int>(std::min<int64_t>(s.window, static_cast<int64_t>(t) + 1));
    const double sink = 0.05 + 0.2 * unit(t, layer, 9), compressed = l.ratio == 0 ? 0 : 0.2 + 0.4 * unit(t, layer, 10);
    int64_t n_entries = l.ratio ? (static_cast<int64_t>(t) + 1) / l.ratio : 0;
    n_entries = std::min<int64_t>(n_entries, 40000);
    const double used = n_entries ? compressed : 0, window = 1 - sink - used;
    w.f(kShares, layer, {static_cast<float>(window), static_cast<float>(used), static_cast<float>(sink)});
    w.f(kWindowMass, layer, shares(n_window, window, t, layer, 11));
    if (l.ratio && (t + 1) % l.ratio == 0)
        w.f(kEntryWeights, layer, shares(l.kind() == LayerKind::csa ? 8 : l.ratio, 1, t, layer, 12));
    if (l.kind() == LayerKind::hca && n_entries) w.f(kEntryMass, layer, shares(static_cast<int>(n_entries), used, t, layer, 13));
    if (l.kind() != LayerKind::csa) return;
    std::vector<float> scores(static_cast<size_t>(n_entries));
    for (size_t e = 0; e < scores.size(); ++e) scores[e] = static_cast<float>(6 * unit(t, layer, 14, e) - 1);
    std::vector<int32_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return scores[a] > scores[b]; });
    const size_t k = std::min<size_t>(s.index_topk, order.size());
    std::vector<int32_t> chosen(static_cast<size_t>(s.index_topk), -1);
    std::vector<float> chosen_scores(static_cast<size_t>(s.index_topk), -INFINITY);
    for (size_t i = 0; i < k; ++i) chosen[i] = order[i], chosen_scores[i] = scores[order[i]];
    w.i(kIndexTopk, layer, chosen), w.f(kIndexTopkScores, layer, chosen_scores);
    if (k) w.f(kIndexCut, layer, {chosen_scores[k - 1], k < order.size() ? scores[order[k]] : -INFINITY});
    std::vector<float> mass = shares(static_cast<int>(k), used, t, layer, 15);
    mass.resize(static_cast<size_t>(s.index_topk), 0);
    w.f(kEntryMass, layer, mass);
}

void put_router(const Writer& w, const Shape& s, const ModelInfo& m, int layer, uint64_t t) {
    std::vector<float> affinity(static_cast<size_t>(s.n_experts));
    for (size_t e = 0; e < affinity.size(); ++e)
        affinity[e] = static_cast<float>(std::sqrt(std::log1p(std::exp(3 * unit(t, layer, 16, e) - 2))));
    w.f(kRouterScores, layer, affinity);
    std::vector<int32_t> order(affinity.size());
    std::iota(order.begin(), order.end(), 0);
    const bool is_hash = m.config.layers[layer].is_hash_routed;
    if (!is_hash) {
        const auto& bias = m.router_bias[layer];
        const auto selection = [&](int e) { return affinity[e] + bias[e]; };
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return selection(a) > selection(b); });
        w.f(kRouterMargin, layer, {selection(order[s.n_chosen - 1]) - selection(order[s.n_chosen])});
    } else {
        std::rotate(order.begin(), order.begin() + static_cast<int>((t * 7 + layer) % s.n_experts), order.end());
    }
    order.resize(s.n_chosen);
    float sum = 0;
    for (int e : order) sum += affinity[e];
    std::vector<float> weights;
    for (int e : order) weights.push_back(affinity[e] / sum * 1.5f);
    w.i(kRouterIndices, layer, order), w.f(kRouterWeights, layer, weights);
    w.f(kMlpNorms, layer, {static_cast<float>(2 + unit(t, layer, 17)), static_cast<float>(1 + unit(t, layer, 18))});
}

void put_next(const Writer& w, const Shape& s, uint64_t t) {
    std::vector<float> probs = shares(s.n_next, 0.97, t, 0, 19, 9);
    std::sort(probs.rbegin(), probs.rend());
    std::vector<int32_t> ids;
    double entropy = 0;
    for (int i = 0; i < s.n_next; ++i)
        ids.push_back(static_cast<int32_t>(20 + (t * 13 + 7 * i) % 230)), entropy -= probs[i] * std::log(probs[i]);
    w.i(kNextIds, TokenRecord::kNoLayer, ids), w.f(kNextProbs, TokenRecord::kNoLayer, probs);
    w.f(kNextEntropy, TokenRecord::kNoLayer, {static_cast<float>(entropy)});
}

const char* const kQuestion = "What is 74*82, and why does 注意力机制 need fewer keys in long texts?";
const char* const kReasoning =
    "The user asks two things. First, 74*82: 74*80 = 5920 and 74*2 = 148, so the sum is 6068.\nSecond, 注意力机制 "
    "(attention). In long texts most keys carry little mass; choosing a few compressed entries keeps what matters.";
const char* const kAnswer =
    "74 × 82 = 6068.\n\n注意力机制让每个词关注其他词。 In a long text most of the keys get almost no weight, so the "
    "model groups "
    "neighbouring tokens into compressed entries and reads only the best of them. The sliding window keeps the newest "
    "tokens whole.";

void append_words(const std::string& text, Phase phase, std::vector<TokenInfo>& out) {
    for (size_t i = 0; i < text.size();) {
        size_t end = i + 1;
        if (static_cast<unsigned char>(text[i]) >= 0xE0) end = i + 3;
        else
            while (end < text.size() && text[end] != ' ' && text[end] != '\n' &&
                   static_cast<unsigned char>(text[end]) < 0xC0 && end - i < 6)
                ++end;
        TokenInfo t;
        t.id = static_cast<int32_t>(20 + (i * 31 + text[i]) % 230), t.phase = phase, t.text = text.substr(i, end - i);
        const bool is_drawn = phase != Phase::prompt;
        t.probability = is_drawn ? static_cast<float>(0.3 + 0.7 * unit(i, 20)) : -1;
        t.entropy = is_drawn ? static_cast<float>(2 * unit(i, 21)) : -1;
        out.push_back(t);
        i = std::min(end, text.size());
    }
}

TokenInfo special(const char* text) {
    TokenInfo t;
    t.id = 3, t.is_special = true, t.text = text;
    return t;
}

Timeline timeline(const Shape& s) {
    Timeline t;
    t.branch = 1;
    const auto segment = [&](const char* what, int64_t turn, auto fill) {
        const auto begin = static_cast<int64_t>(t.tokens.size());
        fill();
        t.segments.push_back({what, begin, static_cast<int64_t>(t.tokens.size()), turn});
    };
    segment("BOS", 0, [&] { t.tokens.push_back(special("<bos>")); });
    segment("system", 0, [&] { append_words("You are a careful assistant. ", Phase::prompt, t.tokens); });
    const int64_t tail = 180, filler = std::max<int64_t>(0, s.n_tokens - tail - static_cast<int64_t>(t.tokens.size()));
    segment("notes", 1, [&] {
        const char* words[] = {"Notes:", " the", " red", " box", " holds", " nine", " keys", ".",
                               "\n",     " 钥",  "匙",   " in",  " row",   " 7",    ","};
        for (int64_t i = 0; i < filler; ++i) {
            TokenInfo w;
            w.id = static_cast<int32_t>(20 + i % 230), w.text = words[(i * 7 + i / 15) % 15];
            t.tokens.push_back(std::move(w));
        }
    });
    segment("user", 1, [&] { t.tokens.push_back(special("<user>")), append_words(kQuestion, Phase::prompt, t.tokens); });
    segment("assistant", 2, [&] { t.tokens.push_back(special("<assistant>")), t.tokens.push_back(special("<think>")); });
    t.n_prompt = static_cast<int64_t>(t.tokens.size());
    t.n_reused = t.n_prompt / 2;
    t.reuse_reason = "The effort prefix changed, so the rest was read again.";
    append_words(kReasoning, Phase::thinking, t.tokens);
    append_words(kAnswer, Phase::answer, t.tokens);
    for (size_t i = 0; i < t.tokens.size(); ++i) t.tokens[i].ref = {1, static_cast<int64_t>(i)};
    for (int64_t i = 0; i < std::min<int64_t>(t.n_prompt, 4000); ++i) t.prompt_text += t.tokens[i].text;
    return t;
}

std::shared_ptr<const Conversation> conversation(const Timeline& t) {
    auto c = std::make_shared<Conversation>();
    c->id = 7, c->title = "74*82 and attention", c->system = "You are a careful assistant.";
    Turn user, answer;
    user.id = 1, user.role = "user", user.content = kQuestion;
    answer.id = 2, answer.parent = 1, answer.role = "assistant", answer.content = kAnswer, answer.reasoning = kReasoning;
    answer.mode = Mode::high, answer.sibling = 1, answer.n_siblings = 3;
    answer.tokens.assign(t.tokens.begin() + t.n_prompt, t.tokens.end());
    answer.stats.n_prompt = static_cast<int>(t.n_prompt), answer.stats.n_reused = static_cast<int>(t.n_reused);
    for (const TokenInfo& k : answer.tokens) ++(k.phase == Phase::thinking ? answer.stats.n_thinking : answer.stats.n_answer);
    answer.stats.tokens_per_s = 1042, answer.stats.prefill_ms = 38, answer.stats.decode_ms = 160, answer.stats.first_token_ms = 41;
    answer.stats.stop_reason = "end of text";
    c->path = {user, answer};
    return c;
}

}  // namespace

Shape typical() { return {}; }

Shape huge() {
    Shape s;
    s.n_layers = 61, s.n_experts = 384, s.n_chosen = 6, s.n_heads = 128, s.hidden = 7168, s.window = 128, s.index_topk = 512;
    s.hca_ratio = 128, s.n_hash = 3, s.n_tokens = 1 << 20, s.n_recorded = 64;
    return s;
}

std::shared_ptr<const ModelInfo> model_info(const Shape& s) {
    auto m = std::make_shared<ModelInfo>();
    m->folder = "/models/seedling", m->name = "seedling", m->kernels = "AVX-512 BF16", m->n_threads = 2, m->has_tokenizer = true;
    ModelConfig& c = m->config;
    c.vocab_size = 272, c.hidden_size = s.hidden, c.n_heads = s.n_heads, c.head_dim = 64, c.rope_dim = 16, c.q_lora_rank = 128;
    c.o_groups = 2, c.o_lora_rank = 128, c.sliding_window = s.window, c.index_n_heads = 4, c.index_head_dim = 32,
    c.index_topk = s.index_topk;
    c.n_experts = s.n_experts, c.n_shared_experts = 1, c.n_experts_per_tok = s.n_chosen, c.expert_width = 128,
    c.hc_mult = s.n_streams;
    c.hc_sinkhorn_iters = 20, c.hc_eps = 1e-6, c.rms_norm_eps = 1e-6, c.routed_scaling_factor = 1.5, c.swiglu_limit = 10;
    c.rope_theta = 10000, c.compress_rope_theta = 160000, c.max_position = 1 << 20;
    for (int l = 0; l < s.n_layers; ++l) {
        c.layers.push_back({l < 2 ? 0 : l % 2 ? s.hca_ratio : 4, l < s.n_hash});
        std::vector<float> bias;
        for (int e = 0; l >= s.n_hash && e < s.n_experts; ++e) bias.push_back(static_cast<float>(0.3 * unit(l, e, 22) - 0.15));
        m->router_bias.push_back(bias);
        for (const char* name : {"attn.wq_a.weight", "attn.wkv.weight", "ffn.gate.weight"})
            m->tensors.push_back({"layers." + std::to_string(l) + "." + name, "BF16", "[128, 256]", 65536, 32768});
    }
    m->n_params = 13'400'000, m->n_active_params = 4'100'000, m->weight_bytes = 26'800'000, m->load_ms = 84,
    m->effort_release = "chat.json";
    return m;
}

std::shared_ptr<const TokenRecord> record(const Shape& s, int64_t position) {
    static std::shared_ptr<const ModelInfo> model;
    if (!model || model->config.n_layers() != s.n_layers || model->config.n_experts != s.n_experts) model = model_info(s);
    RecordBuilder b;
    b.begin(1);
    const Writer w{b};
    const auto t = static_cast<uint64_t>(position);
    for (int l = 0; l < s.n_layers; ++l) {
        put_streams(w, s, l, t);
        put_attention(w, s, model->config.layers[l], l, t);
        put_router(w, s, *model, l, t);
    }
    put_next(w, s, t);
    return b.finish(0);
}

CacheReport cache_report(const Shape& s) {
    CacheReport r;
    r.n_tokens = s.n_tokens;
    const auto model = model_info(s);
    for (const LayerConfig& l : model->config.layers) {
        LayerCacheBytes b;
        b.n_window_rows = std::min<int64_t>(s.window, s.n_tokens), b.n_entries = l.ratio ? s.n_tokens / l.ratio : 0;
        b.allocated[0] = static_cast<uint64_t>(b.n_window_rows) * 256;
        if (l.kind() == LayerKind::csa)
            b.allocated[1] = static_cast<uint64_t>(b.n_entries) * 256,
            b.allocated[2] = static_cast<uint64_t>(b.n_entries) * 128;
        if (l.kind() == LayerKind::hca) b.allocated[3] = static_cast<uint64_t>(b.n_entries) * 256;
        if (l.ratio) b.allocated[4] = static_cast<uint64_t>(l.ratio) * 1024;
        b.expected = b.allocated;
        r.layers.push_back(b);
    }
    return r;
}

std::shared_ptr<const Comparison> comparison(const Shape& s, bool is_running) {
    auto c = std::make_shared<Comparison>();
    c->question = kQuestion;
    c->n_earlier_turns = 2;
    c->n_layers = s.n_layers, c->n_experts = s.n_experts, c->n_chosen = s.n_chosen;
    constexpr int kTokens[kModes][kComparedPhases] = {{12, 0, 14}, {12, 46, 9}, {75, 61, 9}};
    for (int m = 0; m < kModes; ++m) {
        ModeAnswer& a = c->modes[static_cast<size_t>(m)];
        a.state = is_running && m == 2 ? ModeAnswer::State::running : ModeAnswer::State::done;
        a.reasoning = m ? kReasoning : "", a.content = is_running && m == 2 ? "" : kAnswer;
        a.stats.n_prompt = kTokens[m][0], a.stats.n_thinking = kTokens[m][1], a.stats.n_answer = kTokens[m][2];
        a.stats.prefill_ms = 31.5 * (m + 1), a.stats.decode_ms = 410.25 * (m + 1);
        a.stats.stop_reason = m == 1 ? "length" : "end of text";
        Shape so_far = s;
        so_far.n_tokens = 0;
        for (int p = 0; p < kComparedPhases; ++p) {
            PhaseMeasure& phase = a.phases[static_cast<size_t>(p)];
            phase.n_tokens = phase.n_counted = kTokens[m][p];
            so_far.n_tokens += phase.n_tokens;
            phase.ms = 3.5 * phase.n_tokens;
            if (phase.n_tokens == 0) continue;
            phase.cache = cache_report(so_far);
            phase.filled = phase.cache.allocated();
            phase.loads.assign(static_cast<size_t>(s.n_layers) * s.n_experts, 0);
            for (int t = 0; t < phase.n_counted; ++t)
                for (int l = 0; l < s.n_layers; ++l)
                    for (int k = 0; k < s.n_chosen; ++k) {
                        // Thinking leans to the first half of the experts in the upper layers.
                        const int among = p == 1 && l >= s.n_layers / 2 ? s.n_experts / 2 : s.n_experts;
                        const int first = static_cast<int>(unit(m * 3 + p, t, l, 30) * among);
                        const auto e = static_cast<int16_t>((first + k) % s.n_experts);
                        phase.choices.push_back(e);
                        ++phase.loads[static_cast<size_t>(l) * s.n_experts + e];
                    }
        }
    }
    measure_distances(*c);
    return c;
}

Snapshot empty_conversation(const Shape& s) {
    Snapshot out;
    out.model = model_info(s);
    out.trace = std::make_shared<Trace>();
    auto c = std::make_shared<Conversation>();
    c->id = 8, c->title = "New chat";
    out.conversation = c;
    return out;
}

Snapshot snapshot(const Shape& s) {
    Snapshot out;
    out.model = model_info(s);
    out.timeline = timeline(s);
    out.timeline_version = 1;
    out.conversation = conversation(out.timeline);
    auto trace = std::make_shared<Trace>();
    const auto n = static_cast<int64_t>(out.timeline.tokens.size());
    for (int64_t p = std::max<int64_t>(0, n - s.n_recorded); p < n; ++p) trace->put(1, p, record(s, p));
    out.trace = trace;
    out.cache = cache_report(s);
    out.comparison = comparison(s);
    const char* kinds[] = {"attention", "indexer", "experts", "mixing", "norms"};
    for (int k = 0; k < 5; ++k) {
        out.times.kinds.push_back(kinds[k]);
        out.times.ms_by_kind_and_layer.emplace_back();
        for (int l = 0; l < s.n_layers; ++l) out.times.ms_by_kind_and_layer.back().push_back(0.02 + 0.1 * unit(k, l, 23));
    }
    out.times.n_tokens = 100;
    out.meters = {1042, 1.8};
    for (int i = 0; i < 24; ++i)
        out.conversations.push_back(
            {7 + i, i ? "Conversation about keys and rooms, number " + std::to_string(i) : "74*82 and attention",
             "2026-01-0" + std::to_string(1 + i % 9), "74 × 82 = 6068.", 2 + i % 5});
    return out;
}

}  // namespace vitrine::viz::fake
