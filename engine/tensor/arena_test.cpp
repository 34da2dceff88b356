// Arenas: scopes give back, merged blocks hold what several held.
#include "engine/tensor/arena.h"

#include <gtest/gtest.h>

namespace vitrine {
namespace {

TEST(Arena, a_scope_gives_back_what_was_made_in_it) {
    Arena arena;
    arena.make(DType::f32, {100});
    const size_t before = arena.used_bytes();
    const void* first = nullptr;
    {
        const Arena::Scope scope(arena);
        first = arena.make(DType::f32, {1000}).data;
    }
    EXPECT_EQ(arena.used_bytes(), before);
    EXPECT_EQ(arena.make(DType::f32, {10}).data, first);
}

// Steps of changing sizes: without merging, each leaves blocks that the next can't use.
TEST(Arena, merged_it_holds_steps_of_changing_sizes) {
    Arena merged, kept;
    for (int step = 0; step < 20; ++step) {
        for (Arena* a : {&merged, &kept})
            for (int i = 0; i < 8; ++i) a->make(DType::f32, {(int64_t{2} << 20) + 1000 * ((step * 7 + i) % 5)});
        merged.merge(), kept.clear();
    }
    const size_t needed = 8 * ((size_t{2} << 20) + 4000) * 4;
    EXPECT_LE(merged.allocated_bytes(), needed + needed / 4);
    EXPECT_GT(kept.allocated_bytes(), merged.allocated_bytes());
    EXPECT_EQ(merged.used_bytes(), 0u);
}

}  // namespace
}  // namespace vitrine
