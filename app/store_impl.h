// What store.cpp and store_load.cpp share.
#pragma once
#include "app/store.h"
#include "engine/base/sqlite.h"

namespace vitrine {

struct Store::Impl {
    explicit Impl(const std::string& path) : db(path) {}
    sql::Database db;
};

std::string sampling_to_json(const Sampling& s);
Sampling sampling_from_json(const std::string& text, const std::string& file);
// With who answered (Turn's model and numerics), which files of earlier versions don't have.
std::string stats_to_json(const Turn& t);
void stats_from_json(const std::string& text, const std::string& file, Turn& to);
std::string segments_to_json(const std::vector<PromptSegment>& segments);
std::vector<PromptSegment> segments_from_json(const std::string& text, const std::string& file);

}  // namespace vitrine
