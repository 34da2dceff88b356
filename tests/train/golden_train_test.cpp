// Gradients and ten AdamW losses of a tiny checkpoint against PyTorch's (tests/golden/flashlike: transformers, autograd).
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include "engine/base/reader.h"
#include "engine/model/config.h"
#include "engine/train/gradient_file.h"
#include "tests/support/device.h"
#include "tests/support/temp_folder.h"
#include "tests/support/vectors.h"

namespace vitrine {
namespace {

struct Case {
    test::TempFolder folder;
    std::string model = test::golden_path("flashlike");
    std::string tokens = folder.file("ids.json");
    Case() {
        std::ofstream out(tokens);
        const auto ids = test::int_list(test::load_arrays(model + "/golden.safetensors").at("input_ids"));
        for (size_t i = 0; i < ids.size(); ++i) out << (i ? ", " : "[") << ids[i];
        out << "]";
    }
    std::unique_ptr<Trainer> trainer(const TrainConfig& c) const {
        const ModelConfig config = read_config(model).config;
        return std::make_unique<Trainer>(config, load_weights(model, config), c, 2,
                                         c.dtype == TrainDType::f64 ? kCpu : test::test_device());
    }
};

Json expected(const Case& c) {
    const std::string file = c.model + "/train.json";
    return Json::parse(read_file(file, 1 << 20), file);
}

// ||a - b|| / max(||a||, 1e-8 sqrt(n)) with a the reference.
void compare_gradients(TrainDType dtype, double bound) {
    const Case c;
    const auto trainer = c.trainer(plain_loss(dtype, c.tokens));
    const LossAndGradients result = trainer->gradients(trainer->data().batch(0));
    EXPECT_NEAR(result.loss, expected(c).at("loss").as_double(), 2e-6);
    const test::Arrays want = test::load_arrays(c.model + "/gradients.safetensors");
    std::set<std::string> seen;
    double worst = 0;
    std::string worst_name;
    for (const NamedGradient& g : gradients_by_file_name(*trainer)) {
        ASSERT_TRUE(want.count(g.name)) << g.name;
        const auto& a = want.at(g.name).values;
        ASSERT_EQ(want.at(g.name).shape, g.shape) << g.name;
        double difference = 0, norm = 0;
        for (size_t i = 0; i < a.size(); ++i) {
            const double b = g.dtype == DType::f64 ? reinterpret_cast<const double*>(g.bytes.data())[i]
                                                   : static_cast<double>(reinterpret_cast<const float*>(g.bytes.data())[i]);
            difference += (a[i] - b) * (a[i] - b), norm += a[i] * a[i];
        }
        const double relative = std::sqrt(difference) / std::max(std::sqrt(norm), 1e-8 * std::sqrt(static_cast<double>(a.size())));
        EXPECT_LE(relative, bound) << g.name;
        if (relative > worst) worst = relative, worst_name = g.name;
        seen.insert(g.name);
    }
    for (const auto& [name, values] : want)
        EXPECT_TRUE(seen.count(name) || name.ends_with("gate.bias") || name.ends_with("tid2eid")) << name;
    std::printf("worst relative difference %.2e of %s\n", worst, worst_name.c_str());
}

TEST(GoldenTraining, gradients_f64) { compare_gradients(TrainDType::f64, 1e-4); }
TEST(GoldenTraining, gradients_f32) { compare_gradients(TrainDType::f32, 1e-3); }

TEST(GoldenTraining, ten_adamw_losses) {
    const Case c;
    TrainConfig config = plain_loss(TrainDType::f32, c.tokens);
    ConfigFields f = fields(config);
    for (const char* s : {"optimizer=adamw", "lr=1e-3", "beta1=0.9", "beta2=0.95", "eps=1e-8", "weight_decay=0.1", "decay=all",
                          "schedule=constant", "clip=0", "steps=10"})
        f.set(s);
    const auto trainer = c.trainer(config);
    const Json want = expected(c);
    double worst = 0;
    for (const Json& loss : want.at("losses").items()) {
        const StepReport r = trainer->step();
        EXPECT_NEAR(r.loss, loss.as_double(), 1e-4) << "step " << r.step;
        worst = std::max(worst, std::abs(r.loss - loss.as_double()));
    }
    EXPECT_TRUE(trainer->is_done());
    std::printf("worst loss difference %.2e\n", worst);
}

}  // namespace
}  // namespace vitrine
