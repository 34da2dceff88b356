// What the routed experts of a model cost per token.
#pragma once

namespace vitrine {
struct ModelConfig;
}

namespace vitrine::lab {

// Multiply-adds of k routed experts in every layer; hash-routed layers take no more than they were trained with.
double routed_multiply_adds(const ModelConfig& c, int k);

}  // namespace vitrine::lab
