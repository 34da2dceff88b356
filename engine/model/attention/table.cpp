// The attention variants: by what replaces a layer's attention, else by the layer's kind.
#include "engine/model/attention/attention.h"

namespace vitrine {

AttentionFn attention_for(const LayerConfig& layer) {
    static constexpr struct {
        AttentionOverride instead;
        LayerKind kind;
        AttentionFn fn;
    } table[] = {
        {AttentionOverride::none, LayerKind::sliding, sliding_attention},
        {AttentionOverride::none, LayerKind::csa, csa_attention},
        {AttentionOverride::none, LayerKind::hca, hca_attention},
        {AttentionOverride::full, LayerKind::sliding, full_attention},
        {AttentionOverride::gqa, LayerKind::sliding, gqa_attention},
        {AttentionOverride::mla, LayerKind::sliding, mla_attention},
    };
    for (const auto& row : table)
        if (row.instead == layer.attention && row.kind == layer.kind()) return row.fn;
    assertion_failed("layer kind is in the table", __FILE__, __LINE__);
}

}  // namespace vitrine
