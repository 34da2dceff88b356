// The model's own numbers, rendered from its configuration.
#include "experiments/curriculum/own_config.h"

#include <algorithm>
#include <cstdio>

#include "engine/model/config.h"
#include "engine/model/weights.h"
#include "experiments/curriculum/wording.h"

namespace vitrine::curriculum {
namespace {

std::string millions(int64_t n) {
    char s[32];
    std::snprintf(s, sizeof s, "%.1f", static_cast<double>(n) / 1e6);
    return s;
}

// Chinese counts in 万.
std::string tens_of_thousands(int64_t n) {
    return std::to_string((n + 5000) / 10000);
}

// "3, 5, 7" with layers counted from 0, as the window does.
std::string layers_of(const ModelConfig& c, LayerKind kind) {
    std::string s;
    for (int i = 0; i < c.n_layers(); ++i)
        if (c.layers[static_cast<size_t>(i)].kind() == kind) s += (s.empty() ? "" : ", ") + std::to_string(i);
    return s;
}

int ratio_of(const ModelConfig& c, LayerKind kind) {
    for (const LayerConfig& l : c.layers)
        if (l.kind() == kind) return l.ratio;
    return 0;
}

std::vector<std::string> filled(std::initializer_list<const char*> patterns, std::string_view thing) {
    std::vector<std::string> all;
    for (const char* p : patterns) all.push_back(fill(p, {thing}));
    return all;
}

// A countable thing: "How many heads do you have?" "I have 8 heads."
ConfigFact how_many(const char* thing, const char* chinese, int64_t n, const std::string& reply,
                    const std::string& chinese_reply) {
    return {thing,
            chinese,
            std::to_string(n),
            filled({"How many {a} do you have?", "What is your number of {a}?", "How many {a} are there in you?",
                    "Tell me your number of {a}.", "How many {a} are in this model?", "What is the number of {a}?",
                    "How many {a} does this model have?", "How many {a}?"},
                   thing),
            filled({"你有多少{a}？", "你有几个{a}？", "这个模型有多少{a}？", "你的{a}有多少个？", "告诉我你有多少{a}。",
                    "一共有多少{a}？", "模型里有几个{a}？", "{a}有多少？"},
                   chinese),
            reply,
            chinese_reply};
}

// A size: "How wide is your hidden state?" "My hidden size is 256."
ConfigFact what_is(const char* thing, const char* chinese, const std::string& value, const std::string& reply,
                   const std::string& chinese_reply) {
    return {thing,
            chinese,
            value,
            filled({"What is your {a}?", "How large is your {a}?", "Tell me your {a}.", "What {a} do you have?",
                    "What is the {a} of this model?", "How big is your {a}?", "Which {a} do you use?", "Your {a}?"},
                   thing),
            filled({"你的{a}是多少？", "你的{a}有多大？", "告诉我你的{a}。", "这个模型的{a}是多少？", "你用多大的{a}？",
                    "{a}是多少？", "模型的{a}有多大？", "你的{a}？"},
                   chinese),
            reply,
            chinese_reply};
}

ConfigFact which_layers(const char* kind, const char* chinese, const std::string& list) {
    return {std::string(kind) + " layers",
            std::string(chinese) + "层",
            list,
            filled({"Which of your layers are {a} layers?", "Where are your {a} layers?", "Which layers use {a}?",
                    "List your {a} layers.", "In which layers do you use {a}?", "What layers are {a}?",
                    "Which layers have {a}?", "Tell me your {a} layers."},
                   kind),
            filled({"你的哪些层是{a}层？", "哪些层用{a}？", "列出你的{a}层。", "你在哪些层用{a}？", "{a}层是哪几层？",
                    "{a}层在哪里？", "哪几层是{a}？", "告诉我你的{a}层。"},
                   chinese),
            std::string("My ") + kind + " layers are " + list + ", counted from 0.",
            std::string("我的") + chinese + "层是第 " + list + " 层，从 0 数起。"};
}

}  // namespace

std::vector<ConfigFact> config_facts(const ModelConfig& c) {
    const auto n = [](int64_t x) { return std::to_string(x); };
    const ParamCount size = count_params(c);
    std::vector<ConfigFact> all = {
        how_many("layers", "层", c.n_layers(), "I have " + n(c.n_layers()) + " layers.",
                 "我有 " + n(c.n_layers()) + " 层。"),
        how_many("attention heads", "注意力头", c.n_heads, "Each layer has " + n(c.n_heads) + " attention heads.",
                 "每层有 " + n(c.n_heads) + " 个注意力头。"),
        how_many(
            "experts", "专家", c.n_experts,
            "Each layer has " + n(c.n_experts) + " routed experts and " + n(c.n_shared_experts) + " shared expert.",
            "每层有 " + n(c.n_experts) + " 个路由专家和 " + n(c.n_shared_experts) + " 个共享专家。"),
        how_many(
            "active experts", "激活的专家", c.n_experts_per_tok,
            "Each token uses " + n(c.n_experts_per_tok) + " of the " + n(c.n_experts) +
                " routed experts, and the shared one.",
            "每个词元使用 " + n(c.n_experts) + " 个路由专家中的 " + n(c.n_experts_per_tok) + " 个，再加共享专家。"),
        how_many("parameters", "参数", 0,
                 "I have " + millions(size.total) + " million parameters; each token uses " + millions(size.active) +
                     " million.",
                 "我有 " + tens_of_thousands(size.total) + " 万个参数，每个词元使用其中 " +
                     tens_of_thousands(size.active) + " 万个。"),
        how_many("residual streams", "残差流", c.hc_mult, "I have " + n(c.hc_mult) + " residual streams.",
                 "我有 " + n(c.hc_mult) + " 条残差流。"),
        how_many("Sinkhorn iterations", "Sinkhorn 迭代", c.hc_sinkhorn_iters,
                 "I use " + n(c.hc_sinkhorn_iters) + " Sinkhorn iterations for each mixing matrix.",
                 "每个混合矩阵用 " + n(c.hc_sinkhorn_iters) + " 次 Sinkhorn 迭代。"),
        what_is("hidden size", "隐藏维度", n(c.hidden_size), "My hidden size is " + n(c.hidden_size) + ".",
                "我的隐藏维度是 " + n(c.hidden_size) + "。"),
        what_is("head size", "头维度", n(c.head_dim),
                "Each head has " + n(c.head_dim) + " channels, " + n(c.rope_dim) + " of them rotary.",
                "每个头有 " + n(c.head_dim) + " 个通道，其中 " + n(c.rope_dim) + " 个用旋转编码。"),
        what_is("expert width", "专家宽度", n(c.expert_width),
                "Each expert is " + n(c.expert_width) + " channels wide.",
                "每个专家的宽度是 " + n(c.expert_width) + "。"),
        what_is("vocabulary", "词表", n(c.vocab_size), "My vocabulary has " + n(c.vocab_size) + " tokens.",
                "我的词表有 " + n(c.vocab_size) + " 个词元。"),
        what_is("sliding window", "滑动窗口", n(c.sliding_window),
                "My sliding window is " + n(c.sliding_window) + " tokens long.",
                "我的滑动窗口有 " + n(c.sliding_window) + " 个词元。"),
        what_is("longest context", "最长上下文", n(c.max_position),
                "My longest context is " + n(c.max_position) + " tokens.",
                "我的上下文最长是 " + n(c.max_position) + " 个词元。"),
    };
    all[4].value = millions(size.total);
    if (const int ratio = ratio_of(c, LayerKind::csa)) {
        all.push_back(what_is("CSA ratio", "CSA 压缩比", n(ratio),
                              "My CSA layers make one entry of " + n(ratio) + " tokens.",
                              "我的 CSA 层把 " + n(ratio) + " 个词元压成一个条目。"));
        all.push_back(what_is("indexer top-k", "索引器 top-k", n(c.index_topk),
                              "My indexer keeps the best " + n(c.index_topk) + " entries.",
                              "我的索引器保留最好的 " + n(c.index_topk) + " 个条目。"));
        all.push_back(how_many("indexer heads", "索引头", c.index_n_heads,
                               "My indexer has " + n(c.index_n_heads) + " heads.",
                               "我的索引器有 " + n(c.index_n_heads) + " 个头。"));
        all.push_back(which_layers("CSA", "CSA", layers_of(c, LayerKind::csa)));
    }
    if (const int ratio = ratio_of(c, LayerKind::hca)) {
        all.push_back(what_is("HCA ratio", "HCA 压缩比", n(ratio),
                              "My HCA layers make one entry of " + n(ratio) + " tokens.",
                              "我的 HCA 层把 " + n(ratio) + " 个词元压成一个条目。"));
        all.push_back(which_layers("HCA", "HCA", layers_of(c, LayerKind::hca)));
    }
    if (!layers_of(c, LayerKind::sliding).empty())
        all.push_back(which_layers("sliding-window", "滑动窗口", layers_of(c, LayerKind::sliding)));
    return all;
}

}  // namespace vitrine::curriculum
