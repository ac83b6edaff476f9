#include "client/cli/sweep_errors.h"

#include <string>

#include <gtest/gtest.h>

namespace normlab::client {
namespace {

TEST(SweepErrorsTest, SpeakOfOptions) {
  normlab::v1::Experiment experiment;
  normlab::v1::Design& design = *experiment.mutable_design();
  for (const char* const field : {"normalization", "batch_size"}) {
    normlab::v1::Axis& axis = *design.add_axes();
    axis.set_field(field);
    axis.add_values("none");
    axis.add_values("batsh");
  }
  design.add_seeds(3);
  design.add_seeds(3);
  const auto words = [&experiment](const char* text) { return InTermsOfOptions(text, experiment); };
  EXPECT_EQ(words("design.axes[0].values[1]: \"batsh\" is no value of normalization"),
            "--axis normalization, value 2: \"batsh\" is no value of normalization");
  EXPECT_EQ(words("design.axes[1].field: is seed; give the seeds in design.seeds"),
            "--axis batch_size: is seed; give the seeds in --seeds");
  EXPECT_EQ(words("design.seeds[1]: is 3 again"), "--seeds, number 2: is 3 again");
  EXPECT_EQ(words("design.axes[1].range: needs a random design; or set design.random"),
            "--axis batch_size: needs a random design; or set --random");
  EXPECT_EQ(
      words("the experiment cannot be accepted (1 problem): design: has 3 cells. Correct the "
            "named fields and submit again."),
      "the sweep cannot be accepted (1 problem): the sweep has 3 cells. Correct what is named "
      "and repeat the command.");
  // Of a path that nothing stands for, nothing is changed.
  EXPECT_EQ(words("base.model: is missing"), "base.model: is missing");
}

}  // namespace
}  // namespace normlab::client
