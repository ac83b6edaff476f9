#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/spec/resolve.h"
#include "engine/spec/testing.h"
#include "engine/spec/validate.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;

v1::JobSpec Spec(const std::string& text) {
  return testing::ParseSpec("model { mlp { hidden: 8 } } data { fashion_mnist {} } " + text);
}

TEST(ProbesSpecTest, EveryProbeIsValidWithoutSettings) {
  const v1::JobSpec spec = Spec(
      "probes { activation_statistics {} } probes { gradient_norms {} } probes { covariate_shift "
      "{} } "
      "probes { landscape {} } probes { gradient_noise {} } probes { sharpness {} } "
      "probes { scale_invariance {} } probes { normalizer_parameters {} } probes { loss_surface {} "
      "}");
  EXPECT_THAT(Validate(spec), IsEmpty());
  const v1::JobSpec resolved = Resolve(spec);
  EXPECT_EQ(resolved.probes(0).every(), 50);
  EXPECT_THAT(resolved.probes(3).landscape().learning_rate_multiples(), ElementsAre(0.5, 1, 2, 4));
  EXPECT_EQ(resolved.probes(4).gradient_noise().batches(), 8);
  EXPECT_EQ(resolved.probes(5).sharpness().examples(), resolved.batch_size());
  EXPECT_FALSE(resolved.probes(8).has_every());
  EXPECT_THAT(Validate(resolved), IsEmpty());
  EXPECT_EQ(Resolve(resolved).SerializeAsString(), resolved.SerializeAsString());
}

TEST(ProbesSpecTest, MistakesAreNamed) {
  const struct {
    const char* spec;
    const char* field;
  } kCases[] = {
      {"probes {}", "probes[0]"},
      {"probes { every: 0 landscape {} }", "probes[0].every"},
      {"probes { every: 5 loss_surface {} }", "probes[0].every"},
      {"probes { landscape {} } probes { every: 3 landscape {} }", "probes[1]"},
      {"probes { landscape { learning_rate_multiples: [1, 0] } }",
       "probes[0].landscape.learning_rate_multiples[1]"},
      {"probes { landscape { step_sizes: nan } }", "probes[0].landscape.step_sizes[0]"},
      {"probes { landscape { step_sizes: 1 learning_rate_multiples: 1 } }",
       "probes[0].landscape.step_sizes"},
      {"probes { landscape {} } optimizer { adam {} }",
       "probes[0].landscape.learning_rate_multiples"},
      {"probes { landscape {} } optimizer { sgd { momentum: 0.9 } }",
       "probes[0].landscape.learning_rate_multiples"},
      {"probes { gradient_noise { batches: 1 } }", "probes[0].gradient_noise.batches"},
      {"probes { sharpness { examples: 0 } }", "probes[0].sharpness.examples"},
      {"probes { sharpness { iterations: 0 } }", "probes[0].sharpness.iterations"},
      {"probes { loss_surface { dimensions: 3 } }", "probes[0].loss_surface.dimensions"},
      {"probes { loss_surface { points: 10 } }", "probes[0].loss_surface.points"},
      {"probes { loss_surface { points: 33 } }", "probes[0].loss_surface.points"},
      {"probes { loss_surface { range: 0 } }", "probes[0].loss_surface.range"},
      {"probes { layers: \"fc1\" landscape {} }", "probes[0].layers"},
  };
  for (const auto& [spec, field] : kCases) {
    EXPECT_THAT(Validate(Spec(spec)), ElementsAre(Field(&Violation::field, field))) << spec;
  }
  EXPECT_THAT(Validate(Spec("probes { landscape { step_sizes: 0.1 } } optimizer { adam {} }")),
              IsEmpty());
}

}  // namespace
}  // namespace normlab::engine
