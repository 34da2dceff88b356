// What a GPU does in another order than the CPU: a layer's keys are appended before its queries are multiplied, which then run
// beside that.
#pragma once
#include "engine/model/attention/attention.h"

namespace vitrine {

// query_path and key_path; entries and index keys are appended too.
Queries append_and_query(Ctx& ctx, const Tensor& x_TD, const AttentionInput& in);

}  // namespace vitrine
