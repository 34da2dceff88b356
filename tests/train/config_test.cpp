// Keys of a training run: JSON and back, --set, ranges, unknown names.
#include <gtest/gtest.h>

#include <set>

#include "engine/base/config/training_config.h"
#include "tests/support/message_of.h"

namespace vitrine {
namespace {

// Of an error that is the input's fault.
std::string message_of(const std::function<void()>& f) {
    ErrorKind kind = ErrorKind::bad_input;
    const std::string message = test::message_of(f, &kind);
    EXPECT_EQ(kind, ErrorKind::bad_input) << message;
    return message;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(TrainConfig, json_round_trip_keeps_every_key) {
    TrainConfig c;
    c.lr = 0.1 + 0.2, c.optimizer = OptimizerKind::muon, c.recompute = true, c.data = "x", c.steps = 7;
    c.schedule = ScheduleKind::cosine, c.seed = 123456789012, c.on_nonfinite = NonFinitePolicy::skip;
    const std::string text = to_json(c).dump(1);
    const TrainConfig back = train_config_from_json(Json::parse(text, "config.json"), "config.json");
    EXPECT_TRUE(back == c) << text;
}

TEST(TrainConfig, every_field_has_a_name_help_and_a_default_in_range) {
    TrainConfig c;
    ConfigFields f = fields(c);
    std::set<std::string> names;
    std::vector<Issue> issues;
    f.read(f.to_json(), "defaults", issues);
    EXPECT_TRUE(issues.empty());
    for (const ConfigField& x : f.all()) {
        EXPECT_TRUE(names.insert(x.name).second) << x.name;
        EXPECT_GT(std::string(x.help).size(), 8u) << x.name;
        EXPECT_GT(std::string(x.group).size(), 3u) << x.name;
    }
}

TEST(TrainConfig, set_reads_words_by_kind) {
    TrainConfig c;
    ConfigFields f = fields(c);
    for (const char* s : {"optimizer=muon", "lr=1e-3", "steps=40", "recompute=on", "data=tokens", "clip=0", "dtype=f64"}) f.set(s);
    EXPECT_EQ(c.optimizer, OptimizerKind::muon);
    EXPECT_EQ(c.lr, 1e-3);
    EXPECT_EQ(c.steps, 40);
    EXPECT_TRUE(c.recompute);
    EXPECT_EQ(c.data, "tokens");
    EXPECT_EQ(c.clip, 0);
    EXPECT_EQ(c.dtype, TrainDType::f64);
}

TEST(TrainConfig, wrong_values_name_key_value_and_range) {
    TrainConfig c;
    ConfigFields f = fields(c);
    EXPECT_TRUE(has(message_of([&] { f.set("learning_rte=1"); }), "unknown key"));
    EXPECT_TRUE(has(message_of([&] { f.set("beta3=0.9"); }), "did you mean beta"));
    EXPECT_TRUE(has(message_of([&] { f.set("lr=-1"); }), "lr = -1: expected a number in [0, 100]"));
    EXPECT_TRUE(has(message_of([&] { f.set("lr=fast"); }), "expected a number"));
    EXPECT_TRUE(has(message_of([&] { f.set("lr=nan"); }), "expected a number"));
    EXPECT_TRUE(has(message_of([&] { f.set("steps=1.5"); }), "expected an integer"));
    EXPECT_TRUE(has(message_of([&] { f.set("optimizer=sgd"); }), "expected one of adamw, muon"));
    EXPECT_TRUE(has(message_of([&] { f.set("recompute=1"); }), "expected true or false"));
    EXPECT_TRUE(has(message_of([&] { f.set("lr"); }), "expected key=value"));
    EXPECT_EQ(c, TrainConfig{});
    const auto read = [](const char* text) { train_config_from_json(Json::parse(text, "run.json"), "run.json"); };
    const std::string two = message_of([&] { read(R"({"lr": "x", "stepz": 3})"); });
    EXPECT_TRUE(has(two, "run.json: lr") && has(two, "did you mean steps")) << two;
    EXPECT_TRUE(has(message_of([&] { read(R"({"schedule": "wsd"})"); }), "decay_steps"));
    EXPECT_TRUE(has(message_of([&] { read(R"({"data": "tokens"})"); }), "tokens"));
    EXPECT_TRUE(has(message_of([&] { read(R"({"indexer": "staged"})"); }), "indexer_weight"));
}

TEST(TrainConfig, two_configs_differ_field_by_field) {
    TrainConfig a, b;
    b.lr = 0.5, b.schedule = ScheduleKind::wsd;
    const auto d = differences(fields(a), fields(b));
    ASSERT_EQ(d.size(), 2u);
    EXPECT_EQ(d[0].name, "lr");
    EXPECT_EQ(d[1].b, "\"wsd\"");
}

}  // namespace
}  // namespace vitrine
