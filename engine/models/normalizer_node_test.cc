#include "engine/models/normalizer_node.h"

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "gtest/gtest.h"
#include <google/protobuf/descriptor.h>

namespace normlab::engine {
namespace {

// A normalizer of this kind without any setting.
v1::Normalizer Default(const std::string& kind) {
  v1::Normalizer normalizer;
  normalizer.GetReflection()->MutableMessage(&normalizer,
                                             v1::Normalizer::descriptor()->FindFieldByName(kind));
  return normalizer;
}

// Every kind of the contract is known here: a new one fails this test until it is.
TEST(NormalizerNodeTest, EveryKindOfTheContractIsMadeOrRefused) {
  const auto* kinds = v1::Normalizer::descriptor()->FindOneofByName("kind");
  int layers = 0;
  for (int i = 0; i < kinds->field_count(); ++i) {
    const std::string& name = kinds->field(i)->name();
    const v1::Normalizer normalizer = Default(name);
    EXPECT_EQ(NormalizerName(normalizer), name);
    const auto made = MakeLoneNormalizer(normalizer, {6, 5, 3}, 14);
    if (name == "fixup" || name == "skip_init") {
      EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument) << name;
      continue;
    }
    ASSERT_TRUE(made.ok()) << name << ": " << made.status();
    const bool weights = name == "weight" || name == "weight_standardization";
    EXPECT_EQ(made->transform != WeightTransform::kNone, weights) << name;
    EXPECT_EQ(made->node.has_value(), !weights && name != "none") << name;
    if (made->node.has_value()) {
      ++layers;
      Graph graph({6, 5, 3});
      EXPECT_TRUE(graph.Add("layer", *made->node).ok()) << name;
    }
  }
  EXPECT_EQ(layers, kinds->field_count() - 5);
  EXPECT_EQ(NormalizerName(v1::Normalizer()), "none");
}

TEST(NormalizerNodeTest, SettingsArriveAndExplicitZerosStayZero) {
  v1::Normalizer normalizer;
  v1::NoisyBatchNorm& noisy = *normalizer.mutable_noisy_batch();
  noisy.set_epsilon(0);
  noisy.set_mean_range(0);
  noisy.set_deviation_range(3);
  noisy.set_normalize(false);
  const auto made = MakeLoneNormalizer(normalizer, {4}, 2);
  ASSERT_TRUE(made.ok());
  const auto& node = std::get<NoisyBatchNormNode>(*made->node);
  EXPECT_EQ(node.batch.epsilon, 0);
  EXPECT_EQ(node.batch.running_update_rate, 0.1);
  EXPECT_EQ(node.mean_range, 0);
  EXPECT_EQ(node.deviation_range, 3);
  EXPECT_EQ(node.mean_jitter, 0.1);
  EXPECT_FALSE(node.normalize);

  normalizer.mutable_group()->set_groups(3);
  normalizer.mutable_group()->set_affine(false);
  const auto grouped = MakeLoneNormalizer(normalizer, {6, 2, 2}, 2);
  EXPECT_EQ(std::get<GroupNormNode>(*grouped->node).groups, 3);
  EXPECT_FALSE(std::get<GroupNormNode>(*grouped->node).affine);
  EXPECT_EQ(
      std::get<GroupNormNode>(*MakeLoneNormalizer(Default("instance"), {6, 2, 2}, 2)->node).groups,
      6);
  EXPECT_EQ(std::get<FilterResponseNode>(
                *MakeLoneNormalizer(Default("filter_response"), {6, 2, 2}, 2)->node)
                .epsilon,
            1e-6);
}

TEST(NormalizerNodeTest, GhostSizeMustDivideTheBatch) {
  v1::Normalizer normalizer = Default("ghost_batch");
  EXPECT_EQ(std::get<GhostBatchNormNode>(*MakeLoneNormalizer(normalizer, {4}, 14)->node).size, 14);
  EXPECT_EQ(std::get<GhostBatchNormNode>(*MakeLoneNormalizer(normalizer, {4}, 64)->node).size, 32);
  EXPECT_FALSE(MakeLoneNormalizer(normalizer, {4}, 33).ok());
  normalizer.mutable_ghost_batch()->set_ghost_size(0);
  EXPECT_FALSE(MakeLoneNormalizer(normalizer, {4}, 14).ok());
  normalizer.mutable_ghost_batch()->set_ghost_size(7);
  EXPECT_TRUE(MakeLoneNormalizer(normalizer, {4}, 14).ok());
}

TEST(LoneNormalizerTest, InEvaluationAnyGhostSizeWillDo) {
  v1::Normalizer ghosts;
  ghosts.mutable_ghost_batch()->set_ghost_size(4);
  EXPECT_FALSE(MakeLoneNormalizer(ghosts, {6}, 7).ok());
  EXPECT_TRUE(MakeLoneNormalizer(ghosts, {6}, 7, /*batch_statistics=*/false).ok());
}

}  // namespace
}  // namespace normlab::engine
