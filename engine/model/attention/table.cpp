// The attention variants by layer kind.
#include "engine/model/attention/attention.h"

namespace vitrine {

AttentionFn attention_for(LayerKind kind) {
    static constexpr struct {
        LayerKind kind;
        AttentionFn fn;
    } table[] = {
        {LayerKind::sliding, sliding_attention},
        {LayerKind::csa, csa_attention},
        {LayerKind::hca, hca_attention},
    };
    for (const auto& row : table)
        if (row.kind == kind) return row.fn;
    assertion_failed("layer kind is in the table", __FILE__, __LINE__);
}

}  // namespace vitrine
