// Every normalizer trains from its defaults in every model, except where it normalizes sets of one
// value: then the job is refused by the layer's name. Both lists are the contract's own (oneof
// fields of Model and Normalizer), so a kind that is added is tested or fails here.
#include <cmath>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"

#include "tests/numeric/training_run.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {
namespace {

using ::testing::HasSubstr;

// Small enough for a whole run in a fraction of a second; classes far enough apart to be learned.
constexpr char kImages[] =
    "data { gaussian_classes { classes: 4 dims: [3, 8, 10] train_examples: 256 test_examples: 64 "
    "separation: 12 } } ";
constexpr int kSteps = 48;
constexpr int kStepsPerEpoch = 8;

struct SmallModel {
  std::string spec;
  // The first layer whose features are dense, one value a channel; empty: none.
  std::string first_dense_layer;
  bool residual = false;
};

// A model of each kind.
std::map<std::string, SmallModel> SmallModels() {
  return {
      {"mlp", {"mlp { hidden: [24, 16] }", "fc1"}},
      {"cnn", {"cnn { blocks { channels: 8 pooling {} } blocks { channels: 12 } }", ""}},
      {"deep_linear", {"deep_linear { depth: 4 width: 16 }", "fc1"}},
      {"vgg", {"vgg { depth: 11 width_multiplier: 0.125 }", ""}},
      {"resnet", {"resnet { depth: 20 width_multiplier: 0.5 }", "", true}},
      {"custom",
       {"custom { layers { name: \"stem\" convolution { channels: 8 } } "
        "layers { normalizer {} } layers { name: \"a\" activation {} } "
        "layers { name: \"branch\" convolution { channels: 8 } } "
        "layers { name: \"branch_norm\" normalizer {} } "
        "layers { name: \"sum\" add {} inputs: [\"branch_norm\", \"a\"] } "
        "layers { global_average_pooling {} } layers { name: \"head\" linear { outputs: 4 } } }",
        ""}},
  };
}

std::vector<std::string> KindsOf(const google::protobuf::Descriptor& message) {
  const google::protobuf::OneofDescriptor* kinds = message.FindOneofByName("kind");
  std::vector<std::string> names;
  for (int i = 0; i < kinds->field_count(); ++i) {
    names.push_back(kinds->field(i)->name());
  }
  return names;
}

std::string Spec(const std::string& model, const std::string& normalizer) {
  return absl::StrCat(kImages, "model { ", model, " } normalization { ", normalizer,
                      " {} } batch_size: 32 steps: ", kSteps,
                      " evaluation { every_epochs: 0 } seed: 1");
}

enum class Expectation { kTrains, kDegenerate, kOnlyResidual };

Expectation Expected(const SmallModel& model, const std::string& normalizer) {
  if ((normalizer == "fixup" || normalizer == "skip_init") && !model.residual) {
    return Expectation::kOnlyResidual;
  }
  if ((normalizer == "instance" || normalizer == "filter_response") &&
      !model.first_dense_layer.empty()) {
    return Expectation::kDegenerate;
  }
  return Expectation::kTrains;
}

void ExpectTrains(const std::string& what, const TrainingResult& result) {
  EXPECT_EQ(result.outcome.state(), v1::Job::SUCCEEDED)
      << what << ": " << result.outcome.ShortDebugString();
  const std::vector<double>& losses = result.curves.train_loss;
  ASSERT_EQ(losses.size(), static_cast<size_t>(kSteps)) << what;
  const double last = result.curves.RecentLoss(kStepsPerEpoch);
  std::cout << "  " << what << ": loss " << losses[0] << " -> " << last << "\n";
  // Of the mean over an epoch: single batches differ more than a shy start improves.
  EXPECT_LT(last, losses[0]) << what;
}

class EveryNormalizerTest : public ::testing::TestWithParam<std::string> {};

TEST_P(EveryNormalizerTest, TrainsFromDefaultsOrIsRefusedByTheLayersName) {
  const auto models = SmallModels();
  const auto found = models.find(GetParam());
  ASSERT_NE(found, models.end()) << "a new kind of model: give it a small one in SmallModels()";
  const SmallModel& model = found->second;
  for (const std::string& normalizer : KindsOf(*v1::Normalizer::descriptor())) {
    const std::string what = absl::StrCat(GetParam(), " with ", normalizer);
    const auto result = RunTraining(Spec(model.spec, normalizer));
    switch (Expected(model, normalizer)) {
      case Expectation::kTrains:
        EXPECT_TRUE(result.ok()) << what << ": " << result.status();
        if (result.ok()) {
          ExpectTrains(what, *result);
        }
        break;
      case Expectation::kDegenerate:
        ASSERT_FALSE(result.ok()) << what;
        EXPECT_THAT(std::string(result.status().message()), HasSubstr(model.first_dense_layer))
            << what;
        break;
      case Expectation::kOnlyResidual:
        ASSERT_FALSE(result.ok()) << what;
        EXPECT_THAT(std::string(result.status().message()), HasSubstr("normalization")) << what;
        break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryModel,
                         EveryNormalizerTest,
                         ::testing::ValuesIn(KindsOf(*v1::Model::descriptor())),
                         [](const auto& model) { return model.param; });

TEST(EveryNormalizerListTest, KindsAreThoseOfTheContract) {
  // The lists drive the tests above; an empty one would pass them all.
  EXPECT_EQ(KindsOf(*v1::Model::descriptor()).size(), 6U);
  EXPECT_EQ(KindsOf(*v1::Normalizer::descriptor()).size(), 20U);
}

}  // namespace
}  // namespace normlab::engine
