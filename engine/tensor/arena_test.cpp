// Arenas: scopes give back, merged blocks hold what several held.
#include "engine/tensor/arena.h"

#include <gtest/gtest.h>

#include <new>

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

// Memory that is taken when it is asked for, as a GPU's.
class PlainMemory : public Memory {
  public:
    void* take(size_t bytes) override { return ::operator new(bytes, std::align_val_t{64}); }
    void give(void* block) noexcept override { ::operator delete(block, std::align_val_t{64}); }
};

// Steps of changing sizes leave gaps at the ends of blocks.
TEST(Arena, holds_steps_of_changing_sizes) {
    PlainMemory plain;
    Arena merged(plain), cleared(plain), kept;
    size_t kept_at_first = 0;
    for (int step = 0; step < 20; ++step) {
        for (Arena* a : {&merged, &cleared, &kept})
            for (int i = 0; i < 8; ++i) a->make(DType::f32, {(int64_t{2} << 20) + 1000 * ((step * 7 + i) % 5)});
        merged.merge(), cleared.clear(), kept.clear();
        if (step == 1) kept_at_first = kept.allocated_bytes();
    }
    const size_t needed = 8 * ((size_t{2} << 20) + 4000) * 4;
    EXPECT_LE(merged.allocated_bytes(), needed + needed / 4);
    EXPECT_EQ(merged.used_bytes(), 0u);
    EXPECT_GT(cleared.allocated_bytes(), merged.allocated_bytes());
    EXPECT_EQ(kept.allocated_bytes(), kept_at_first) << "blocks double, so the next steps fit";
    EXPECT_LE(kept.allocated_bytes(), 3 * needed);
}

}  // namespace
}  // namespace vitrine
