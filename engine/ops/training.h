// What a training step asks of the ops, and what they leave for it (v4-spec 10).
#pragma once
#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/device/cpu/weight_formats.h"
#include "engine/ops/ctx.h"

namespace vitrine {

// Which compressed entries a query of a CSA layer attends to, and what trains the indexer (v4-spec 10.3).
enum class IndexerPhase {
    dense,    // every visible entry; the indexer rests
    warm_up,  // every visible entry; the indexer learns the attention's distribution over all of them
    sparse,   // the top k; the indexer learns on the chosen ones
};

// Fake quantisation: the value is rounded to the format, the gradient passes straight through.
struct FakeQuant {
    bool fp8_weights = false;      // dense projections and the shared expert: 128x128 blocks
    bool fp4_experts = false;      // routed experts: one scale per row and 32 columns
    bool fp8_activations = false;  // inputs of those linears: one scale per row and 128 columns
    bool fp8_cache = false;        // window rows and entries, all but the rotary dimensions: one scale per 64
    bool fp4_index = false;        // indexer queries and keys, after Hadamard
    bool fp8_per_tensor = false;   // activations: one scale per tensor instead (of an expert's hidden rows: per expert)
};

// Delayed scaling: a tensor's scale is that of the largest magnitude which the inputs of the same weight had in steps before.
// By the weight's master.
struct DelayedScales {
    std::unordered_map<const void*, float> before;  // none yet: the tensor's own is taken
    std::unordered_map<const void*, float> now;     // left by this step's ops
};

struct LayerLoad {                    // of one MoE layer in this step
    std::vector<double> chosen;       // [E] tokens sent to each expert
    std::vector<double> affinity;     // [E] summed normalised affinities
};

struct AuxiliaryLoss {
    const char* name;                 // "balance", "sequence_balance", "router_z", "indexer"
    int layer;
    double value, weight;             // the step's loss holds weight * value
};

struct AttentionStats {               // of one layer in this step, over all its queries and heads
    int layer;
    double max_logit;                 // largest scaled q.k of a visible key
    double entropy;                   // mean, in nats, of the probabilities of keys and sink
    double window, entries, sink;     // shares of the probability, sum 1
    double reach = 0;  // [tokens] distance within which 90 % of the keys' probability lies; an entry lies at the
                       // middle of its block. Mean
};

struct HeadLogits {                   // of one layer in this step
    int layer;
    std::vector<double> largest;      // [H] scaled q.k of a visible key, after the soft cap
};

struct CompressorStats {              // of one layer's main compressor in this step
    int layer;
    double entropy;                   // of the pooling weights over an entry's slots, as a share of the largest: 1 = a mean, 0 =
                                      // picks one; mean over channels and entries
    // Of the scores' variance over an entry's slots, summed over channels and entries: what the position biases make of
    // it, as a share of that and what the tokens make.
    double position = 0;
    // With wants_reconstruction: entries [S, D] before the norm, and what their own tokens gave to them [S, ratio * D].
    int64_t n_entries = 0;
    std::vector<float> entries{}, tokens{};
};

struct HyperStats {                   // of one site in this step
    int layer;
    double dynamic;                   // |a m| / (|a m| + |base|) of what makes the mixing matrix, mean over tokens
    // [N] share of each stream in what the site reads, |pre_i| |x_i| over their sum, and in where it writes, |post_i|;
    // means over tokens
    std::vector<double> reads{}, writes{};
};

struct WriteStats {        // of what a site adds to the residual streams, post f, against their sum behind it
    int layer;             // its attention's first, then its experts'
    double share, cosine;  // |post f| / |X'| and the cosine of the two, over all streams; means over tokens
};

struct IndexerStats {                 // of one CSA layer in this step
    int layer;
    double recall;                    // share of the attention's own k best entries (dense, summed over heads) that are chosen;
                                      // mean over queries that see more than k, NaN without any
    // Of the same queries, 0 without any and on a GPU: attention's mass on the chosen as a share of that on all
    // entries; Jaccard index of the choices of neighbours; entries that some query chose as a share of those that their
    // sequence has.
    double mass = 0, overlap = 0, coverage = 0;
    // Of the same queries, over all entries that they see: Spearman's correlation of scores and mass; the discounted
    // gain of the k best by score over that of the k best by mass (NDCG, gain = mass); [H] the recall of each attention
    // head's own k best.
    double rank = 0, ndcg = 0;
    std::vector<double> by_head{};
};

struct ExpertStats {                  // of one MoE layer in this step, of h = silu(gate) up before the routing weight
    int layer;
    double peak;                      // largest |h|, shared expert included
    double clipped;                   // share of gates and ups that the SwiGLU clamp cut
    double alignment;                 // mean over channels of |cos| between the rows of gate and up projection
    double kurtosis;                  // mean(m^2) / mean(m)^2 over channels with mean square m; 1: all alike
    // Of an expert's weighted output for a token against the sum of all, shared one included: ratio of norms and
    // cosine, means over what was sent to routed experts; the shared expert's ratio, NaN without one.
    double contribution = 0, cosine = 0, shared = 0;
};

struct ExpertOutputs {  // of one MoE layer in this step: every routed expert on some of the tokens, evenly spaced
    int layer;
    int64_t n_experts, n_tokens;
    std::vector<float> values;  // [E, T, D] before the routing weight
};

struct RoundingCounts {                              // of this step; the experts' hidden rows are not counted
    cpu::RoundingCount weights, activations, cache;  // FP8
    cpu::RoundingCount fp4_experts, fp4_index;
};

class Communicator;  // engine/comm/communicator.h

// A batch whose sequences are spread over ranks: the ops of this one see some of them. Losses are means over all; what they leave
// is this rank's part, and the sum over ranks is the batch's. Loads are this rank's counts.
struct WholeBatch {
    Communicator* ranks;
    std::vector<int64_t> lengths;  // of all sequences, in tokens
    int64_t n_tokens;
};

struct RoundedWeights;                // engine/ops/quantize/quantize_tape.h
namespace cuda { struct StepCopies; }  // engine/ops/linear/copies.h

struct TrainingStep {
    // ---- asked
    bool wants_attention_stats = false;
    bool wants_head_logits = false;
    bool wants_compressor_stats = false;
    bool wants_hyper_stats = false;
    bool wants_indexer_recall = false;  // costs a dense attention per CSA layer
    bool wants_expert_stats = false;
    bool wants_expert_outputs = false;  // costs every expert of a layer on 64 tokens
    bool wants_reconstruction = false;  // with wants_compressor_stats
    bool wants_rounding = false;
    double balance_weight = 0;        // E sum_e f_e P_e over the batch
    double sequence_weight = 0;       // the same within each segment, mean over segments
    double z_weight = 0;              // mean (log sum_e exp z_e)^2 of the router's logits
    IndexerPhase indexer = IndexerPhase::sparse;
    double indexer_weight = 0;        // of KL(attention || softmax(I)), inputs detached
    FakeQuant quant;
    DelayedScales* delayed = nullptr;   // with quant.fp8_per_tensor; nullptr: each tensor's own scale
    const WholeBatch* whole = nullptr;  // nullptr: the batch that the ops see is all of it
    bool recomputes = false;          // blocks keep their input only and run again in backward
    // ---- left
    std::vector<LayerLoad> loads;     // [L (+ MTP)]
    std::vector<AuxiliaryLoss> losses;
    std::vector<AttentionStats> attention;
    std::vector<HeadLogits> head_logits;
    std::vector<CompressorStats> compressors;
    std::vector<HyperStats> hypers;
    std::vector<WriteStats> writes;
    std::vector<IndexerStats> indexers;
    std::vector<ExpertStats> experts;
    std::vector<ExpertOutputs> expert_outputs;
    RoundingCounts rounding;
    std::shared_ptr<RoundedWeights> rounded;  // for the ops: weights rounded once. Weights have moved: take a new step
    std::shared_ptr<cuda::StepCopies> on_gpu;  // as `rounded`, on a GPU
    bool is_recomputation = false;    // set while a block runs again: nothing is left then, and no probe published
};

}  // namespace vitrine
