#include "engine/models/job_check.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/models/testing.h"

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kImages;
using ::testing::SizeIs;
using testing::Spec;

JobCheck Check(const std::string& text, const DatasetShape& shape = kImages) {
  return CheckJob(Spec(text), shape);
}

constexpr char kMlp[] = "model { mlp { hidden: [9, 8] } } ";

TEST(JobCheckTest, APlacementWithoutMeaningIsAWarning) {
  const std::string after = " placement: AFTER_ACTIVATION } ";
  EXPECT_THAT(Check(kMlp + ("normalization { batch {}" + after)).warnings, IsEmpty());
  EXPECT_THAT(Check(kMlp + ("normalization { weight {}" + after)).warnings,
              ElementsAre(AllOf(HasSubstr("normalization.placement"), HasSubstr("weight"))));
  EXPECT_THAT(Check(kMlp + ("normalization { batch {} } normalization_overrides { layers: 'fc2' "
                            "normalization { none {}" +
                            after + "}"))
                  .warnings,
              ElementsAre(HasSubstr("normalization_overrides[0].normalization.placement")));
}

constexpr char kCustom[] =
    "model { custom { layers { flatten {} } layers { linear { outputs: 7 } } %s "
    "layers { activation {} } layers { linear { outputs: 5 } } } } ";

std::string Custom(const std::string& middle) {
  std::string text = kCustom;
  return text.replace(text.find("%s"), 2, middle);
}

TEST(JobCheckTest, ACustomModelWithoutANormalizerLayerIsAWarning) {
  EXPECT_THAT(Check(Custom("") + "normalization { batch {} }").warnings,
              ElementsAre(HasSubstr("no normalizer layer")));
  EXPECT_THAT(Check(Custom("")).warnings, IsEmpty());
  EXPECT_THAT(Check(Custom("layers { normalizer {} }") + "normalization { batch {} }").warnings,
              IsEmpty());
  EXPECT_THAT(Check(Custom("layers { normalizer {} }") +
                    "normalization { batch {} placement: AFTER_ACTIVATION }")
                  .warnings,
              ElementsAre(HasSubstr("order of the layers")));
}

TEST(JobCheckTest, EpsilonZeroIsAWarning) {
  EXPECT_THAT(Check(std::string(kMlp) + "normalization { layer { epsilon: 0 } }").warnings,
              ElementsAre(HasSubstr("normalization.layer.epsilon is 0")));
  EXPECT_THAT(Check(std::string(kMlp) + "normalization { layer { epsilon: 1e-30 } }").warnings,
              IsEmpty());
}

TEST(JobCheckTest, ImagesWithTheirChannelsLastAreAWarning) {
  const std::string arrays = std::string(kMlp) + "data { arrays { path: 'a.npz' } }";
  DatasetShape shape = kImages;
  shape.channels = 32;
  shape.height = 31;
  shape.width = 3;
  EXPECT_THAT(Check(arrays, shape).warnings,
              ElementsAre(AllOf(HasSubstr("32 channels of 31x3"), HasSubstr("transpose"))));
  shape.channels = 3;
  shape.width = 32;
  EXPECT_THAT(Check(arrays, shape).warnings, IsEmpty());
}

TEST(JobCheckTest, OrthogonalWeightsThatTakeTooLongAreRefused) {
  const std::string orthogonal = "initializer { orthogonal {} } ";
  EXPECT_THAT(Check("model { mlp { hidden: [4096] } } " + orthogonal).violations, IsEmpty());
  const JobCheck check = Check("model { mlp { hidden: [4097, 5000, 16] } } " + orthogonal);
  ASSERT_THAT(check.violations, SizeIs(1));
  EXPECT_EQ(check.violations[0].field, "initializer.orthogonal");
  EXPECT_THAT(check.violations[0].description,
              AllOf(HasSubstr("fc2.weight, 5000x4097"), HasSubstr("at most")));
  EXPECT_THAT(Check("model { mlp { hidden: [4097, 5000, 16] } }").violations, IsEmpty());
}

}  // namespace
}  // namespace normlab::engine
