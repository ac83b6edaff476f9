// Which optimizer a spec means, and what it keeps.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "engine/models/build_graph.h"
#include "engine/optim/optimizer.h"
#include "engine/spec/optimizer_memory.h"
#include "engine/spec/resolve.h"

namespace normlab::engine {
namespace {

v1::JobSpec Resolved(const std::string& optimizer) {
  v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "model { mlp { hidden: [37, 5] } } data { mnist {} } normalization { batch {} } "
      "optimizer { " +
          optimizer + " }",
      &spec))
      << optimizer;
  return Resolve(spec);
}

constexpr DatasetShape kShape = {.channels = 1,
                                 .height = 5,
                                 .width = 3,
                                 .classes = 7,
                                 .train_examples = 10,
                                 .test_examples = 10};

TEST(MakeOptimizerTest, StateIsWhatTheEstimateOfMemoryCounts) {
  for (const auto& [text, slots] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"", {}},
           {"sgd { momentum: 0.9 }", {"momentum_buffer"}},
           {"adam {}", {"exp_avg", "exp_avg_sq"}},
           {"adamw {}", {"exp_avg", "exp_avg_sq"}},
           {"rmsprop {}", {"square_avg"}},
           {"rmsprop { centered: true }", {"square_avg", "grad_avg"}},
           {"rmsprop { momentum: 0.5 centered: true }",
            {"square_avg", "grad_avg", "momentum_buffer"}}}) {
    const v1::JobSpec resolved = Resolved(text);
    const Graph graph = *BuildGraph(resolved, kShape).graph;
    const auto optimizer = MakeOptimizer(resolved, graph);
    ASSERT_TRUE(optimizer.ok()) << optimizer.status();
    std::vector<std::string> names;
    for (const OptimizerSlot& slot : (*optimizer)->slots()) {
      names.push_back(slot.name);
      EXPECT_EQ(static_cast<int64_t>(slot.values.size()), graph.parameter_floats());
    }
    EXPECT_EQ(names, slots) << text;
    EXPECT_EQ(OptimizerSlotCount(resolved.optimizer()), static_cast<int>(slots.size())) << text;
    EXPECT_EQ((*optimizer)->counters().size(), text.find("adam") == 0 ? 1U : 0U) << text;
  }
}

TEST(MakeOptimizerTest, DecayWeightsOnlySparesEverythingElse) {
  for (const bool weights_only : {false, true}) {
    const v1::JobSpec resolved =
        Resolved(absl::StrCat("sgd { learning_rate: 0.5 weight_decay: 0.5 } decay_weights_only: ",
                              weights_only ? "true" : "false"));
    const Graph graph = *BuildGraph(resolved, kShape).graph;
    const auto optimizer = MakeOptimizer(resolved, graph);
    ASSERT_TRUE(optimizer.ok());
    std::vector<float> w(static_cast<size_t>(graph.parameter_floats()));
    for (const ParameterSpec& parameter : graph.parameters()) {
      std::fill_n(w.begin() + parameter.offset, parameter.count, 4.0F);
    }
    const std::vector<float> g(w.size());
    EXPECT_TRUE((*optimizer)->Step(0.5, g, absl::MakeSpan(w)));
    int spared = 0;
    for (const ParameterSpec& parameter : graph.parameters()) {
      const bool decays = parameter.role == ParameterRole::kWeight || !weights_only;
      spared += decays ? 0 : 1;
      for (int64_t i = 0; i < parameter.count; ++i) {
        ASSERT_EQ(w[static_cast<size_t>(parameter.offset + i)], decays ? 3.0F : 4.0F)
            << parameter.name;
      }
    }
    EXPECT_EQ(spared, weights_only ? 5 : 0);  // two gammas, two betas, the head's bias
  }
}

}  // namespace
}  // namespace normlab::engine
