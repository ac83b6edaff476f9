#include "engine/spec/schedule_warnings.h"

#include <string>

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "engine/spec/resolve.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Warnings(const std::string& schedule) {
  v1::JobSpec spec;
  EXPECT_TRUE(
      google::protobuf::TextFormat::ParseFromString("schedule { " + schedule + " }", &spec));
  return ScheduleWarnings(Resolve(spec), {.steps_per_epoch = 7, .total_steps = 20});
}

TEST(ScheduleWarningsTest, AScheduleThatFitsHasNone) {
  for (const char* text :
       {"", "cosine {}", "one_cycle {}", "warmup_steps: 19", "step { milestone_steps: [3, 19] }",
        "step { milestone_epochs: [1, 2] }"}) {
    EXPECT_THAT(Warnings(text), IsEmpty()) << text;
  }
}

TEST(ScheduleWarningsTest, WhatTheRunNeverSeesIsTold) {
  EXPECT_THAT(Warnings("step {}"), ElementsAre(HasSubstr("no milestones")));
  EXPECT_THAT(Warnings("step { milestone_steps: [3, 20, 30] }"),
              ElementsAre(HasSubstr("step 20 is never reached, because the run has 20 steps")));
  EXPECT_THAT(Warnings("step { milestone_epochs: [2, 3] }"),
              ElementsAre(HasSubstr("epoch 3 is never reached")));
  EXPECT_THAT(Warnings("cosine {} warmup_steps: 20"), ElementsAre(HasSubstr("warm-up of 20")));
}

}  // namespace
}  // namespace normlab::engine
