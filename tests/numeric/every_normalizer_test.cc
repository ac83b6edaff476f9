// Every normalizer trains from its defaults in every model, except where it normalizes sets of one
// value: then the job is refused by the layer's name. Both lists are the contract's own (oneof
// fields of Model and Normalizer), so a kind that is added is tested or fails here.
//
// The optimizer's and initializer's defaults train too, with the exceptions of OtherSettings: what
// PyTorch cannot train from them either.
#include <cmath>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"

#include "tests/numeric/training_run.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {
namespace {

using ::testing::HasSubstr;

// Small enough for a whole run in a fraction of a second. Real images: of independent pixels a
// global average leaves nothing to learn from.
constexpr char kImages[] = "data { fashion_mnist {} train_limit: 512 test_limit: 64 } ";
constexpr int kMostSteps = 960;
constexpr size_t kStepsPerEpoch = 16;
// Of the mean loss over an epoch: well below that of guessing one of ten classes.
const double kLearned = 0.95 * std::log(10.0);

struct SmallModel {
  std::string spec;
  // Its features are dense, one value a channel.
  bool dense = false;
  bool residual = false;
};

// A model of each kind.
std::map<std::string, SmallModel> SmallModels() {
  return {
      {"mlp", {"mlp { hidden: [24, 16] }", /*dense=*/true}},
      {"cnn", {"cnn { blocks { channels: 8 pooling {} } blocks { channels: 12 } }"}},
      {"deep_linear", {"deep_linear { depth: 4 width: 16 }", /*dense=*/true}},
      {"vgg", {"vgg { depth: 11 width_multiplier: 0.125 }"}},
      {"resnet",
       {"resnet { depth: 20 width_multiplier: 0.5 }", /*dense=*/false, /*residual=*/true}},
      {"custom",
       {"custom { layers { name: \"stem\" convolution { channels: 8 } } "
        "layers { normalizer {} } layers { name: \"a\" activation {} } "
        "layers { name: \"branch\" convolution { channels: 8 } } "
        "layers { name: \"branch_norm\" normalizer {} } "
        "layers { name: \"sum\" add {} inputs: [\"branch_norm\", \"a\"] } "
        "layers { activation {} } layers { global_average_pooling {} } layers { name: \"head\" "
        "linear { outputs: 10 } } }"}},
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

// What the default optimizer (SGD at 0.1) or initializer (PyTorch's) does not train.
std::string OtherSettings(const std::string& model, const std::string& normalizer) {
  static const std::set<std::string> leave_the_scale_to_the_weights = {
      "none", "frozen_batch", "mean_only_batch", "dyt", "skip_init", "fixup"};
  static const std::set<std::string> sums_of_branches_grow = {"none", "frozen_batch",
                                                              "mean_only_batch"};
  std::string settings;
  if ((model == "vgg" || model == "resnet") &&
      leave_the_scale_to_the_weights.contains(normalizer)) {
    // PyTorch's weights shrink the signal by 0.4 a ReLU layer: 10^-4 is left behind VGG-11. He's
    // double it with every branch of a residual net.
    settings = absl::StrCat("initializer { ",
                            model == "resnet" && sums_of_branches_grow.contains(normalizer)
                                ? "lecun_normal"
                                : "he_normal",
                            " {} } ");
  }
  if (normalizer == "weight") {
    // Directions of length 0.05 sqrt(fan_in) turn 1/|v|^2 as fast: deep nets diverge at 0.1, with
    // PyTorch's arithmetic too.
    settings += "optimizer { sgd { learning_rate: 0.01 } }";
  }
  return settings;
}

std::string Spec(const std::string& kind, const SmallModel& model, const std::string& normalizer) {
  return absl::StrCat(kImages, "model { ", model.spec, " } normalization { ", normalizer,
                      " {} } batch_size: 32 steps: ", kMostSteps,
                      " evaluation { every_epochs: 0 } seed: 1 ", OtherSettings(kind, normalizer));
}

// Those that normalize each channel of an example by itself, and the layer they are refused by.
std::map<std::string, std::string> DegenerateWhenDense() {
  return {{"instance", "in1"}, {"filter_response", "frn1"}};
}

enum class Expectation { kTrains, kDegenerate, kOnlyResidual };

Expectation Expected(const SmallModel& model, const std::string& normalizer) {
  if ((normalizer == "fixup" || normalizer == "skip_init") && !model.residual) {
    return Expectation::kOnlyResidual;
  }
  if (model.dense && DegenerateWhenDense().contains(normalizer)) {
    return Expectation::kDegenerate;
  }
  return Expectation::kTrains;
}

bool HasLearned(const TrainingCurves& curves) {
  return curves.RecentLoss(kStepsPerEpoch) < kLearned;
}

void ExpectTrained(const std::string& what, const TrainingResult& result) {
  // CANCELLED: it had learned before the end.
  EXPECT_TRUE(result.outcome.state() == v1::Job::SUCCEEDED ||
              result.outcome.state() == v1::Job::CANCELLED)
      << what << ": " << result.outcome.ShortDebugString().substr(0, 500);
  ASSERT_GE(result.curves.train_loss.size(), kStepsPerEpoch) << what;
  std::cout << "  " << what << ": loss " << result.curves.train_loss[0] << " -> "
            << result.curves.RecentLoss(kStepsPerEpoch) << " in " << result.curves.train_loss.size()
            << " steps\n";
  EXPECT_TRUE(HasLearned(result.curves)) << what;
}

class EveryNormalizerTest : public ::testing::TestWithParam<std::string> {};

TEST_P(EveryNormalizerTest, TrainsFromDefaultsOrIsRefusedByTheLayersName) {
  const auto models = SmallModels();
  const auto found = models.find(GetParam());
  ASSERT_NE(found, models.end()) << "a new kind of model: give it a small one in SmallModels()";
  const SmallModel& model = found->second;
  for (const std::string& normalizer : KindsOf(*v1::Normalizer::descriptor())) {
    const std::string what = absl::StrCat(GetParam(), " with ", normalizer);
    const auto result =
        RunTraining(Spec(GetParam(), model, normalizer), {"/usr/share/datasets"}, HasLearned);
    switch (Expected(model, normalizer)) {
      case Expectation::kTrains:
        EXPECT_TRUE(result.ok()) << what << ": " << result.status();
        if (result.ok()) {
          ExpectTrained(what, *result);
        }
        break;
      case Expectation::kDegenerate:
        ASSERT_FALSE(result.ok()) << what;
        EXPECT_THAT(std::string(result.status().message()),
                    HasSubstr(absl::StrCat("layer ", DegenerateWhenDense()[normalizer])))
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

// One value per set is no more than its sign by default, but a smooth function with epsilon 1.
TEST(EveryNormalizerListTest, DenseFilterResponseTrainsWithALargeEpsilon) {
  const SmallModel model = SmallModels().at("mlp");
  const std::string spec = Spec("mlp", model, "filter_response");
  const std::string smooth =
      absl::StrReplaceAll(spec, {{"filter_response {}", "filter_response { epsilon: 1 }"}});
  ASSERT_NE(spec, smooth);
  const auto result = RunTraining(smooth, {"/usr/share/datasets"}, HasLearned);
  ASSERT_TRUE(result.ok()) << result.status();
  ExpectTrained("mlp with filter_response of epsilon 1", *result);
}

TEST(EveryNormalizerListTest, KindsAreThoseOfTheContract) {
  // The lists drive the tests above; an empty one would pass them all.
  EXPECT_EQ(KindsOf(*v1::Model::descriptor()).size(), 6U);
  EXPECT_EQ(KindsOf(*v1::Normalizer::descriptor()).size(), 20U);
}

}  // namespace
}  // namespace normlab::engine
