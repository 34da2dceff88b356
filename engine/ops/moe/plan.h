// Which rows go to which expert: tokens and choices regrouped by expert.
#pragma once
#include <vector>

#include "engine/model/weights.h"
#include "engine/ops/router/router.h"

namespace vitrine {

struct Slot {             // one row of one expert
    int64_t token;
    int64_t choice;       // index into the routing's [T, K]; -1: the shared expert, whose weight is 1
};

struct Group {            // the rows one expert works on
    const ExpertWeights* expert;
    bool is_shared;
    int64_t begin, end;   // slots: rows of the gathered arrays
};

struct MoePlan {
    std::vector<Slot> slots;              // grouped by expert, ascending; within an expert by token; the shared expert's last
    std::vector<Group> groups;            // that have slots
    std::vector<int64_t> slots_of_token;  // [T, K+1] ascending: routed, then shared; -1 fills the rest
    std::vector<int> routed_of_token;     // [T] how many are routed
};

MoePlan make_moe_plan(const Routing& r, const MoeWeights& w);

}  // namespace vitrine
