// Visiting and scanning loaded weights.
#include <cmath>

#include "engine/model/weights.h"

namespace vitrine {
namespace {

using Visit = std::function<void(const Param&)>;

void some(const Visit& visit, std::initializer_list<const Param*> params) {
    for (const Param* p : params)
        if (!p->empty()) visit(*p);
}

void visit_compressor(const CompressorWeights& w, const Visit& v) {
    some(v, {&w.wkv, &w.wgate, &w.ape, &w.norm});
}

void visit_block(const BlockWeights& w, const Visit& v) {
    some(v, {&w.attn_norm, &w.ffn_norm});
    for (const HyperWeights* h : {&w.hc_attn, &w.hc_ffn}) some(v, {&h->fn, &h->base, &h->scale});
    const AttentionWeights& a = w.attn;
    some(v, {&a.wq_a, &a.q_norm, &a.wq_b, &a.wkv, &a.kv_norm, &a.sink, &a.wo_a, &a.wo_b});
    visit_compressor(a.compressor, v);
    some(v, {&a.indexer.wq_b, &a.indexer.weights_proj});
    visit_compressor(a.indexer.compressor, v);
    some(v, {&w.ffn.gate, &w.ffn.bias, &w.ffn.tid2eid});
    for (const ExpertWeights& e : w.ffn.experts) some(v, {&e.w1, &e.w2, &e.w3});
    some(v, {&w.ffn.shared.w1, &w.ffn.shared.w2, &w.ffn.shared.w3});
}

}  // namespace

void for_each_param(const ModelWeights& w, const Visit& visit) {
    some(visit, {&w.embed});
    for (const BlockWeights& b : w.blocks) visit_block(b, visit);
    some(visit, {&w.hc_head.fn, &w.hc_head.base, &w.hc_head.scale, &w.norm, &w.head});
    for (const MtpWeights& m : w.mtp) {
        visit_block(m.block, visit);
        some(visit,
             {&m.e_proj, &m.h_proj, &m.enorm, &m.hnorm, &m.norm, &m.hc_head.fn, &m.hc_head.base, &m.hc_head.scale});
    }
}

WeightScan scan_param(const Param& p) {
    WeightScan s;
    s.name = p.name;
    s.n_values = p.view.out * p.view.in;
    double sum = 0;
    std::vector<float> row(static_cast<size_t>(p.view.in));
    for (int64_t r = 0; r < p.view.out; ++r) {
        p.widen_row(r, row.data());
        for (float x : row) {
            if (std::isnan(x)) {
                ++s.n_nan;
            } else if (std::isinf(x)) {
                ++s.n_inf;
            } else {
                sum += x;
                s.max_abs = std::max(s.max_abs, std::fabs(static_cast<double>(x)));
            }
        }
    }
    const int64_t finite = s.n_values - s.n_nan - s.n_inf;
    if (finite > 0) s.mean = sum / static_cast<double>(finite);
    return s;
}

std::vector<WeightScan> scan_weights(const ModelWeights& w, const std::function<bool()>& keep_going) {
    std::vector<WeightScan> all;
    for_each_param(w, [&](const Param& p) {
        const bool is_table = p.view.dtype == DType::i64 || p.view.dtype == DType::i32;
        if (!is_table && (!keep_going || keep_going())) all.push_back(scan_param(p));
    });
    return all;
}

}  // namespace vitrine
