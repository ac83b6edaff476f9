// Sets of one and two values.
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/models/job_check.h"
#include "engine/models/testing.h"

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kCifar;
using testing::kImages;
using ::testing::Not;
using ::testing::SizeIs;
using testing::Spec;

JobCheck Check(const std::string& text, const DatasetShape& shape = kImages) {
  return CheckJob(Spec(text), shape);
}

std::string Mlp(const std::string& normalizer, const std::string& hidden = "7") {
  return "model { mlp { hidden: [" + hidden + "] } } normalization { " + normalizer + " } ";
}

TEST(NormalizedSetsTest, BatchKindsRefuseOneExampleAndWarnOfTwo) {
  for (const char* kind :
       {"batch {}", "noisy_batch {}", "batch_renorm {}", "l1_batch {}", "l2_batch {}",
        "linf_batch {}", "mean_only_batch {}", "weight { mean_only_batch_norm: true }"}) {
    SCOPED_TRACE(kind);
    const JobCheck one = Check(Mlp(kind) + "batch_size: 1");
    ASSERT_THAT(one.violations, SizeIs(1));
    EXPECT_EQ(one.violations[0].field, "batch_size");
    EXPECT_THAT(one.violations[0].description, HasSubstr("bn1 of fc1 (7)"));
    const JobCheck two = Check(Mlp(kind) + "batch_size: 2");
    EXPECT_THAT(two.violations, IsEmpty());
    EXPECT_THAT(two.warnings, ElementsAre(AllOf(HasSubstr("bn1"), HasSubstr("batch 2"))));
    EXPECT_THAT(Check(Mlp(kind) + "batch_size: 3").warnings, IsEmpty());
    const JobCheck last = Check(Mlp(kind) + "batch_size: 10 data { last_batch: KEEP }");
    ASSERT_THAT(last.violations, SizeIs(1));  // 101 = 10*10 + 1
    EXPECT_EQ(last.violations[0].field, "data.last_batch");
  }
  for (const char* kind : {"none {}", "noisy_batch { normalize: false }", "weight {}", "dyt {}",
                           "frozen_batch {}", "layer {}", "rms {}"}) {
    EXPECT_THAT(Check(Mlp(kind) + "batch_size: 1").violations, IsEmpty()) << kind;
  }
}

TEST(NormalizedSetsTest, GhostBatchesCountByThemselves) {
  JobCheck check = Check(Mlp("ghost_batch { ghost_size: 1 }") + "batch_size: 10");
  ASSERT_THAT(check.violations, SizeIs(1));
  EXPECT_EQ(check.violations[0].field, "normalization.ghost_batch.ghost_size");
  EXPECT_THAT(check.violations[0].description, HasSubstr("bn1"));
  check = Check(Mlp("ghost_batch { ghost_size: 2 }") + "batch_size: 10");
  EXPECT_THAT(check.violations, IsEmpty());
  EXPECT_THAT(check.warnings, ElementsAre(HasSubstr("ghost batches of 2")));
  // 101 = 5*20 + 1
  check = Check(Mlp("ghost_batch { ghost_size: 5 }") + "batch_size: 20 data { last_batch: KEEP }");
  ASSERT_THAT(check.violations, SizeIs(1));
  EXPECT_EQ(check.violations[0].field, "data.last_batch");
  EXPECT_THAT(check.violations[0].description, HasSubstr("ghost batches of 5"));
  check = Check(Mlp("ghost_batch { ghost_size: 5 }") +
                "batch_size: 20 data { last_batch: KEEP train_limit: 95 }");
  EXPECT_THAT(check.violations, IsEmpty());  // a last batch of 15
}

TEST(NormalizedSetsTest, InstanceNormNeedsImages) {
  const JobCheck dense = Check(Mlp("instance {}"));
  ASSERT_THAT(dense.violations, SizeIs(1));
  EXPECT_EQ(dense.violations[0].field, "normalization");
  EXPECT_THAT(dense.violations[0].description, AllOf(HasSubstr("one value"), HasSubstr("(7)"),
                                                     HasSubstr("layer"), Not(HasSubstr("groups"))));
  EXPECT_THAT(Check("model { vgg { width_multiplier: 0.1 } } normalization { instance {} }", kCifar)
                  .violations,
              IsEmpty())
      << "2x2 images are the smallest";
  // A convolution down to 1x1 is no image any more.
  const JobCheck check = Check(R"(model { cnn { blocks { channels: 3 }
      blocks { channels: 4 kernel: 9 stride: 9 padding: 1 } } }
      normalization { batch {} }
      normalization_overrides { layers: "conv2" normalization { instance {} } })");
  ASSERT_THAT(check.violations, SizeIs(1));
  EXPECT_EQ(check.violations[0].field, "normalization_overrides[0].normalization");
  EXPECT_THAT(check.violations[0].description, HasSubstr("in2 of conv2 (4x1x1)"));
}

// x/sqrt(x^2 + epsilon) is a function of x: its sign, or with a large epsilon a smooth one.
TEST(NormalizedSetsTest, RootMeanSquaresOfOneValueNeedALargeEpsilon) {
  for (const auto& [kind, width] : {std::pair("filter_response {", "7"), std::pair("rms {", "1")}) {
    for (const char* small : {"}", " epsilon: 0.009 }"}) {
      const JobCheck check = Check(Mlp(absl::StrCat(kind, small), width));
      ASSERT_THAT(check.violations, SizeIs(1)) << kind;
      EXPECT_EQ(check.violations[0].field, "normalization");
      EXPECT_THAT(check.violations[0].description,
                  AllOf(HasSubstr("of fc1"), HasSubstr("+1 or -1"), HasSubstr("at least 0.01")));
    }
    const JobCheck smooth = Check(Mlp(absl::StrCat(kind, " epsilon: 1 }"), width));
    EXPECT_THAT(smooth.violations, IsEmpty()) << kind;
    EXPECT_THAT(smooth.warnings, ElementsAre(HasSubstr("x/sqrt(x^2 + 1)")));
  }
}

TEST(NormalizedSetsTest, SetsWithinAnExample) {
  EXPECT_THAT(Check(Mlp("group { groups: 7 }")).violations, SizeIs(1));
  EXPECT_THAT(Check(Mlp("layer {}", "1")).violations, SizeIs(1));
  EXPECT_THAT(Check(Mlp("group { groups: 7 }")).violations[0].description,
              HasSubstr("or fewer groups"));
  const JobCheck two = Check(Mlp("group { groups: 4 }", "8"));
  EXPECT_THAT(two.violations, IsEmpty());
  EXPECT_THAT(two.warnings, ElementsAre(AllOf(HasSubstr("gn1"), HasSubstr("per example"))));
  EXPECT_THAT(Check(Mlp("group {}", "8")).warnings, IsEmpty()) << "the default avoids it";
  // The smallest of several is named.
  EXPECT_THAT(Check(Mlp("layer {}", "9, 2, 5")).warnings, ElementsAre(HasSubstr("ln2")));
}

}  // namespace
}  // namespace normlab::engine
