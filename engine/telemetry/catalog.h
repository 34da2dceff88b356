// Every probe the engine publishes, one line each: the only place where a probe is named.
//
// Names follow TransformerLens where it has one; `blocks.{layer}.` is put in front of layer probes. Shapes are per token:
// N streams, D width, H heads, E experts, K chosen, k picks, S entries. `base` probes are always recorded while the window is
// open; the others when a view or a dump asks.
#pragma once
#include <cstdint>

namespace vitrine {

//  id, name, shape, dtype (f float, i int32), per layer?, in the base set?, unit, what it is
#define VITRINE_PROBES(X)                                                                                                     \
    X(kAttnHcOut, "attn_hc.hook_out", "[D]", f, 1, 0, "", "collapsed input of the attention site, before its norm")           \
    X(kAttnHcPre, "attn_hc.hook_pre", "[N]", f, 1, 1, "", "pre weights of the attention site")                                \
    X(kAttnHcPost, "attn_hc.hook_post", "[N]", f, 1, 1, "", "post weights of the attention site")                             \
    X(kAttnHcComb, "attn_hc.hook_comb", "[N,N]", f, 1, 1, "", "mixing matrix C[from][to] of the attention site")              \
    X(kAttnOut, "hook_attn_out", "[D]", f, 1, 0, "", "output of the attention sub-layer")                                     \
    X(kMlpHcOut, "mlp_hc.hook_out", "[D]", f, 1, 0, "", "collapsed input of the MLP site, before its norm")                   \
    X(kMlpHcPre, "mlp_hc.hook_pre", "[N]", f, 1, 1, "", "pre weights of the MLP site")                                        \
    X(kMlpHcPost, "mlp_hc.hook_post", "[N]", f, 1, 1, "", "post weights of the MLP site")                                     \
    X(kMlpHcComb, "mlp_hc.hook_comb", "[N,N]", f, 1, 1, "", "mixing matrix C[from][to] of the MLP site")                      \
    X(kMlpOut, "hook_mlp_out", "[D]", f, 1, 0, "", "output of the MLP sub-layer")                                             \
    X(kStreams, "hook_out", "[N,D]", f, 1, 0, "", "residual streams after the block")                                         \
    X(kStreamNorms, "hook_stream_norms", "[N]", f, 1, 1, "", "L2 norm of each residual stream after the block")               \
    X(kStreamSimilarity, "hook_stream_similarity", "[N,N]", f, 1, 1, "", "cosine between residual streams after the block")   \
    X(kEntry, "attn.compressor.hook_out", "[c]", f, 1, 0, "", "compressed entry that this token completed")                   \
    X(kEntryWeights, "attn.compressor.hook_weights", "[slots]", f, 1, 1, "",                                                  \
      "pooling weights of the entry this token completed, mean over channels; CSA: 4 overlapped tokens, then 4 own")          \
    X(kIndexTopk, "attn.indexer.hook_topk", "[k]", i, 1, 1, "", "entries that CSA chose, best first, -1 = none")              \
    X(kIndexTopkScores, "attn.indexer.hook_topk_scores", "[k]", f, 1, 1, "", "index scores of the chosen entries")            \
    X(kIndexCut, "attn.indexer.hook_cut", "[2]", f, 1, 1, "",                                                                 \
      "lowest chosen index score and highest one left out (-inf when nothing was left out)")                                  \
    X(kIndexScores, "attn.indexer.hook_scores", "[S]", f, 1, 0, "", "index score of every visible entry")                     \
    X(kShares, "attn.hook_shares", "[3]", f, 1, 1, "", "attention mass on window, compressed entries, sink: mean over heads") \
    X(kSharesHead, "attn.hook_shares_head", "[H,3]", f, 1, 0, "", "attention mass on window, compressed, sink of each head")  \
    X(kEntryMass, "attn.hook_entry_mass", "[k or S]", f, 1, 1, "",                                                            \
      "attention mass per attended entry, mean over heads: CSA in the order of hook_topk, HCA by entry")                      \
    X(kWindowMass, "attn.hook_window_mass", "[w]", f, 1, 1, "", "attention mass per window position, oldest first")           \
    X(kEntryMassHead, "attn.hook_entry_mass_head", "[H,k or S]", f, 1, 0, "", "attention mass per attended entry and head")   \
    X(kRouterLogits, "mlp.hook_router_logits", "[E]", f, 1, 0, "", "router logits before sqrt(softplus)")                     \
    X(kRouterScores, "mlp.hook_router_scores", "[E]", f, 1, 1, "", "affinity sqrt(softplus(logit)) of every expert")          \
    X(kRouterIndices, "mlp.hook_router_indices", "[K]", i, 1, 1, "", "chosen experts, best first (hash layers: table order)") \
    X(kRouterWeights, "mlp.hook_router_weights", "[K]", f, 1, 1, "", "final weights of the chosen experts")                   \
    X(kRouterMargin, "mlp.hook_router_margin", "[1]", f, 1, 1, "", "selection score of the K-th minus the best left out")     \
    X(kMlpNorms, "mlp.hook_norms", "[2]", f, 1, 1, "", "L2 norm of the routed sum and of the shared expert's output")         \
    X(kLogits, "logits", "[V]", f, 0, 0, "", "logits of the next token")                                                      \
    X(kNextIds, "hook_next_ids", "[n]", i, 0, 1, "", "most probable next tokens, best first")                                 \
    X(kNextProbs, "hook_next_probs", "[n]", f, 0, 1, "", "their probabilities at temperature 1")                              \
    X(kNextEntropy, "hook_next_entropy", "[1]", f, 0, 1, "nat", "entropy of the next-token distribution at temperature 1")

enum Probe : uint16_t {
#define X(id, ...) id,
    VITRINE_PROBES(X)
#undef X
        kProbeCount
};

struct ProbeInfo {
    const char *id, *name, *shape;
    bool is_int, is_per_layer, is_base;
    const char *unit, *what;
};
const ProbeInfo& probe_info(Probe p);

using ProbeSet = uint64_t;  // bit p: probe p is wanted
static_assert(kProbeCount <= 64);
constexpr ProbeSet probe_bit(Probe p) { return ProbeSet{1} << p; }
ProbeSet base_probes();
inline constexpr ProbeSet kNoProbes = 0;

}  // namespace vitrine
