// The curriculum as a task of the trainer: data=curriculum.
#pragma once

namespace vitrine::curriculum {

// Adds "curriculum" to the tasks that `data` may name. Call once, before the first configuration is read; later calls
// change nothing.
void add_task();

}  // namespace vitrine::curriculum
