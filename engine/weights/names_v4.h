// Names of DeepSeek-V4 tensors: whatever layout a file uses, the official name (v4-spec 7.1) of each of its tensors.
#pragma once
#include <string>
#include <string_view>

namespace vitrine {

// What a name in a file stands for.
struct CanonicalName {
    // As in the official layout: "layers.3.attn.wq_a.weight", "layers.3.attn.wq_a.scale", "mtp.0.hc_head_fn", ... A
    // name that is not understood comes back unchanged but for a leading "model.". The fused experts of transformers,
    // of which several official tensors are parts, are "layers.N.ffn.experts.gate_up" [E, 2I, d] and
    // "layers.N.ffn.experts.down" [E, d, I].
    std::string name;
    bool is_redundant = false;  // a copy that is never read (embedding and head inside mtp, in Base checkpoints)
};

// Understood: official names, also with the prefix `model.` (save_pretrained of transformers 5.17, where attn.norm is
// kv_norm), transformers' module names (5.12; fused or single experts), and the official converter's older spellings.
CanonicalName canonical_name(std::string_view file_name);

}  // namespace vitrine
