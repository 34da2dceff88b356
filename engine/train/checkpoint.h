// Checkpoints of a run: a folder that chat and inspect can open, with everything that going on needs beside it.
//
//   config.json, model.safetensors (F32), tokenizer.json and the like    a checkpoint as any other
//   state.safetensors   moments, kept choices, states to roll back to; weights too when they are F64
//   manifest.json       written last: {"version", "step", "files": {name: bytes}, "state": {...}}; without it nothing counts
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/model/texts.h"
#include "engine/train/trainer.h"

namespace vitrine {

// Every file by a temporary name, fsync, rename; a folder that was there is replaced, its manifest first. Error(internal) when a
// weight is not finite: a good checkpoint is never replaced by a bad one. DiskFull: nothing counts, call again.
void write_checkpoint(Trainer& trainer, const ModelTexts& texts, const std::string& folder);
// The weights alone, as a model folder.
void write_model(Trainer& trainer, const ModelTexts& texts, const std::string& folder);

struct LoadedCheckpoint {
    ModelConfig model;
    TrainConfig config;           // as it was then, live changes included
    int64_t step = 0;
    std::unique_ptr<Trainer> trainer;
};
LoadedCheckpoint read_checkpoint(const std::string& folder, int n_threads, int gpu = kCpu, Communicator* ranks = nullptr);

// Of names, kinds and bytes of all tensors of a model folder: sixteen hexadecimal digits. Reads it whole.
std::string fingerprint_of_weights(const std::string& folder);

// Steps of the complete checkpoints below a run's folder, ascending.
std::vector<int64_t> checkpoint_steps(const std::string& run_folder);
std::string checkpoint_folder(const std::string& run_folder, int64_t step);
void remove_checkpoint(const std::string& folder);

}  // namespace vitrine
