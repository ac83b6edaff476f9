#include "client/cli/spec_view.h"

#include <string>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace normlab::client {
namespace {

std::string Optimizer(const std::string& text) {
  v1::Optimizer optimizer;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &optimizer)) << text;
  return FormatOptimizer(optimizer);
}

std::string Schedule(const std::string& text) {
  v1::Schedule schedule;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &schedule)) << text;
  return FormatSchedule(schedule);
}

TEST(SpecViewTest, OptimizersWithTheirDefaults) {
  EXPECT_EQ(Optimizer(""), "sgd, learning rate 0.1");
  EXPECT_EQ(Optimizer("adam {}"), "adam, learning rate 0.001");
  EXPECT_EQ(Optimizer("adamw {}"), "adamw, learning rate 0.001, weight decay 0.01");
  EXPECT_EQ(Optimizer("adamw { weight_decay: 0 }"), "adamw, learning rate 0.001");
  EXPECT_EQ(Optimizer("rmsprop {}"), "rmsprop, learning rate 0.01");
}

TEST(SpecViewTest, OptimizersWithWhatWasSet) {
  EXPECT_EQ(Optimizer("sgd { learning_rate: 0 momentum: 0.9 nesterov: true weight_decay: 0.5 }"),
            "sgd, learning rate 0, nesterov momentum 0.9, weight decay 0.5");
  EXPECT_EQ(Optimizer("adam { beta1: 0.5 beta2: 0.75 weight_decay: 2 } decay_weights_only: true"),
            "adam, learning rate 0.001, beta1 0.5, beta2 0.75, weight decay (weights only) 2");
  EXPECT_EQ(Optimizer("rmsprop { alpha: 0.5 momentum: 0.25 centered: true } "
                      "clipping { global_norm: 3 }"),
            "centered rmsprop, learning rate 0.01, alpha 0.5, momentum 0.25, gradient norm at "
            "most 3");
  EXPECT_EQ(Optimizer("clipping { value: 0.5 } decay_weights_only: true"),
            "sgd, learning rate 0.1, gradient components at most 0.5");
}

TEST(SpecViewTest, ProcessesAndWhatTheyNormalizeTogether) {
  const auto text = [](int ranks, int group, int threads) {
    v1::JobSpec spec;
    spec.set_threads(threads);
    if (ranks > 0) {
      spec.mutable_data_parallel()->set_ranks(ranks);
      spec.mutable_data_parallel()->set_statistics_group(group);
    }
    return FormatDataParallel(spec);
  };
  EXPECT_EQ(text(0, 0, 1), "");
  EXPECT_EQ(text(1, 1, 1), "");
  EXPECT_EQ(text(2, 1, 1), "2 ranks of 1 thread, each with statistics of its own share");
  EXPECT_EQ(text(4, 2, 3), "4 ranks of 3 threads, with statistics of groups of 2");
  EXPECT_EQ(text(4, 4, 1), "4 ranks of 1 thread, with statistics of the whole batch");
}

TEST(SpecViewTest, Schedules) {
  EXPECT_EQ(Schedule(""), "constant");
  EXPECT_EQ(Schedule("warmup_steps: 5"), "constant, warm-up of 5 steps");
  EXPECT_EQ(Schedule("step { milestone_epochs: [30, 60] }"), "times 0.1 at epochs 30, 60");
  EXPECT_EQ(Schedule("step { milestone_steps: 7 factor: 0.5 }"), "times 0.5 at steps 7");
  EXPECT_EQ(Schedule("cosine {} warmup_steps: 9"), "cosine down to 0, warm-up of 9 steps");
  EXPECT_EQ(Schedule("one_cycle {}"), "one cycle");
}

}  // namespace
}  // namespace normlab::client
