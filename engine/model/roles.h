// The list of a model's tensors: official name, place, logical shape, and which storage types it may have
// (v4-spec 7.1, 5.5).
//
// Read by the loader (fills the params) and by `init` (makes the files): one list, so they can't disagree.
#pragma once
#include <string>

#include "engine/model/residual/residual.h"
#include "engine/model/weights.h"

namespace vitrine {

// plain: F32, F16, BF16. matrix: these or FP8. expert: these, FP8 or FP4. table: I64, I32.
enum class Storage { plain, matrix, expert, table };

// ---- the list of roles: visit(official name without ".weight" where that is implied, param, shape, storage)
// -----------------

// A site of a block, or the head's collapse; a residual variant without weights has none.
template <class Visit>
void hyper_roles(const std::string& prefix, HyperWeights& w, bool is_head, const ModelConfig& c, Visit& visit) {
    const int64_t rows = residual_for(c).n_rows(c, is_head);
    if (rows == 0) return;
    visit(prefix + "_fn", w.fn, Shape{rows, int64_t{c.hc_mult} * c.hidden_size}, Storage::plain);
    visit(prefix + "_base", w.base, Shape{rows}, Storage::plain);
    visit(prefix + "_scale", w.scale, Shape{is_head ? 1 : 3}, Storage::plain);
}

template <class Visit>
void compressor_roles(const std::string& p, CompressorWeights& w, int64_t ratio, int64_t entry, const ModelConfig& c,
                      Visit& visit) {
    const int64_t width = (ratio == 4 ? 2 : 1) * entry;  // CSA entries overlap: two halves
    visit(p + "wkv.weight", w.wkv, Shape{width, c.hidden_size}, Storage::plain);
    visit(p + "wgate.weight", w.wgate, Shape{width, c.hidden_size}, Storage::plain);
    visit(p + "ape", w.ape, Shape{ratio, width}, Storage::plain);
    visit(p + "norm.weight", w.norm, Shape{entry}, Storage::plain);
}

// Keys and values: V4's one shared head, or a variant's.
template <class Visit>
void key_value_roles(const std::string& p, AttentionWeights& w, AttentionOverride kind, const ModelConfig& c, Visit& visit) {
    const int64_t d = c.hidden_size, latent = c.variants.kv_lora_rank;
    if (kind == AttentionOverride::gqa) {
        const int64_t width = int64_t{c.variants.n_kv_heads} * c.head_dim;
        visit(p + "wk.weight", w.wk, Shape{width, d}, Storage::matrix);
        visit(p + "wv.weight", w.wv, Shape{width, d}, Storage::matrix);
        visit(p + "kv_norm.weight", w.kv_norm, Shape{c.head_dim}, Storage::plain);
        return;
    }
    if (kind == AttentionOverride::mla) {
        visit(p + "wkv_a.weight", w.wkv_a, Shape{latent, d}, Storage::matrix);
        visit(p + "wk_rope.weight", w.wk_rope, Shape{c.rope_dim, d}, Storage::matrix);
        visit(p + "kv_norm.weight", w.kv_norm, Shape{latent}, Storage::plain);
        visit(p + "wk_b.weight", w.wk_b, Shape{int64_t{c.n_heads} * (c.head_dim - c.rope_dim), latent}, Storage::matrix);
        visit(p + "wv_b.weight", w.wv_b, Shape{int64_t{c.n_heads} * c.head_dim, latent}, Storage::matrix);
        return;
    }
    visit(p + "wkv.weight", w.wkv, Shape{c.head_dim, d}, Storage::matrix);
    visit(p + "kv_norm.weight", w.kv_norm, Shape{c.head_dim}, Storage::plain);
    visit(p + "attn_sink", w.sink, Shape{c.n_heads}, Storage::plain);
}

template <class Visit>
void attention_roles(const std::string& p, AttentionWeights& w, const LayerConfig& layer, const ModelConfig& c,
                     Visit& visit) {
    const int64_t d = c.hidden_size, heads = int64_t{c.n_heads} * c.head_dim,
                  latent = int64_t{c.o_groups} * c.o_lora_rank;
    visit(p + "wq_a.weight", w.wq_a, Shape{c.q_lora_rank, d}, Storage::matrix);
    visit(p + "q_norm.weight", w.q_norm, Shape{c.q_lora_rank}, Storage::plain);
    visit(p + "wq_b.weight", w.wq_b, Shape{heads, c.q_lora_rank}, Storage::matrix);
    key_value_roles(p, w, layer.attention, c, visit);
    visit(p + "wo_a.weight", w.wo_a, Shape{latent, heads / c.o_groups}, Storage::matrix);
    visit(p + "wo_b.weight", w.wo_b, Shape{d, latent}, Storage::matrix);
    if (layer.ratio > 0) compressor_roles(p + "compressor.", w.compressor, layer.ratio, c.head_dim, c, visit);
    if (layer.kind() != LayerKind::csa) return;
    visit(p + "indexer.wq_b.weight", w.indexer.wq_b, Shape{int64_t{c.index_n_heads} * c.index_head_dim, c.q_lora_rank},
          Storage::matrix);
    visit(p + "indexer.weights_proj.weight", w.indexer.weights_proj, Shape{c.index_n_heads, d}, Storage::plain);
    compressor_roles(p + "indexer.compressor.", w.indexer.compressor, layer.ratio, c.index_head_dim, c, visit);
}

template <class Visit>
void expert_roles(const std::string& p, ExpertWeights& w, int64_t d, int64_t width, Storage storage, Visit& visit) {
    visit(p + "w1.weight", w.w1, Shape{width, d}, storage);
    visit(p + "w2.weight", w.w2, Shape{d, width}, storage);
    visit(p + "w3.weight", w.w3, Shape{width, d}, storage);
}

template <class Visit>
void block_roles(const std::string& p, BlockWeights& w, const LayerConfig& layer, const ModelConfig& c, Visit& visit) {
    const int64_t d = c.hidden_size;
    visit(p + "attn_norm.weight", w.attn_norm, Shape{d}, Storage::plain);
    visit(p + "ffn_norm.weight", w.ffn_norm, Shape{d}, Storage::plain);
    hyper_roles(p + "hc_attn", w.hc_attn, false, c, visit);
    hyper_roles(p + "hc_ffn", w.hc_ffn, false, c, visit);
    attention_roles(p + "attn.", w.attn, layer, c, visit);
    visit(p + "ffn.gate.weight", w.ffn.gate, Shape{c.n_experts, d}, Storage::plain);
    if (layer.is_hash_routed)
        visit(p + "ffn.gate.tid2eid", w.ffn.tid2eid, Shape{c.vocab_size, c.n_experts_per_tok}, Storage::table);
    else
        visit(p + "ffn.gate.bias", w.ffn.bias, Shape{c.n_experts}, Storage::plain);
    w.ffn.experts.resize(static_cast<size_t>(c.n_experts));
    for (size_t e = 0; e < w.ffn.experts.size(); ++e)
        expert_roles(p + "ffn.experts." + std::to_string(e) + ".", w.ffn.experts[e], d, c.expert_width, Storage::expert,
                     visit);
    expert_roles(p + "ffn.shared_experts.", w.ffn.shared, d, c.shared_width(), Storage::matrix, visit);
}

template <class Visit>
void trunk_roles(ModelWeights& w, const ModelConfig& c, Visit& visit) {
    visit("embed.weight", w.embed, Shape{c.vocab_size, c.hidden_size}, Storage::plain);
    w.blocks.resize(c.layers.size());
    for (size_t i = 0; i < c.layers.size(); ++i)
        block_roles("layers." + std::to_string(i) + ".", w.blocks[i], c.layers[i], c, visit);
    hyper_roles("hc_head", w.hc_head, true, c, visit);
    visit("norm.weight", w.norm, Shape{c.hidden_size}, Storage::plain);
    visit("head.weight", w.head, Shape{c.vocab_size, c.hidden_size}, Storage::plain);
}

template <class Visit>
void mtp_roles(ModelWeights& w, const ModelConfig& c, Visit& visit) {
    const int64_t d = c.hidden_size;
    w.mtp.resize(static_cast<size_t>(c.n_mtp_layers));
    for (size_t i = 0; i < w.mtp.size(); ++i) {
        const std::string p = "mtp." + std::to_string(i) + ".";
        block_roles(p, w.mtp[i].block, LayerConfig{}, c, visit);  // window only, routed by score (v4-spec 6)
        visit(p + "e_proj.weight", w.mtp[i].e_proj, Shape{d, d}, Storage::matrix);
        visit(p + "h_proj.weight", w.mtp[i].h_proj, Shape{d, d}, Storage::matrix);
        visit(p + "enorm.weight", w.mtp[i].enorm, Shape{d}, Storage::plain);
        visit(p + "hnorm.weight", w.mtp[i].hnorm, Shape{d}, Storage::plain);
        visit(p + "norm.weight", w.mtp[i].norm, Shape{d}, Storage::plain);
        hyper_roles(p + "hc_head", w.mtp[i].hc_head, true, c, visit);
    }
}

}  // namespace vitrine
