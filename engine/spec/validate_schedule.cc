#include <string>

#include "absl/strings/str_cat.h"

#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

using Milestones = google::protobuf::RepeatedField<int32_t>;

void ValidateMilestones(absl::string_view field,
                        const Milestones& milestones,
                        int64_t maximum,
                        Checker& checker) {
  for (int i = 0; i < milestones.size(); ++i) {
    const std::string item = absl::StrCat(field, "[", i, "]");
    checker.Range(item, milestones.Get(i), 1, maximum,
                  "give when the learning rate is multiplied by schedule.step.factor");
    if (i > 0 && milestones.Get(i) <= milestones.Get(i - 1)) {
      checker.Fail(item, absl::StrCat("is ", milestones.Get(i), " after ", milestones.Get(i - 1),
                                      ", but milestones must increase; sort them and leave "
                                      "repeated ones out"));
    }
  }
}

void ValidateStep(const v1::StepSchedule& step, Checker& checker) {
  ValidateMilestones("schedule.step.milestone_steps", step.milestone_steps(), kMaxSteps, checker);
  ValidateMilestones("schedule.step.milestone_epochs", step.milestone_epochs(), kMaxEpochs,
                     checker);
  if (!step.milestone_steps().empty() && !step.milestone_epochs().empty()) {
    checker.Fail("schedule.step.milestone_epochs",
                 "is given together with milestone_steps; keep one of the two");
  }
  if (step.has_factor()) {
    checker.Real("schedule.step.factor", step.factor(), {.minimum = 0, .maximum = kMaxReal},
                 "it multiplies the learning rate at each milestone; the default is 0.1");
  }
}

void ValidateOneCycle(const v1::OneCycleSchedule& schedule, Checker& checker) {
  constexpr Checker::RealRange kDivisor = {.minimum = 1, .maximum = kMaxReal};
  if (schedule.has_warmup_share()) {
    checker.Real("schedule.one_cycle.warmup_share", schedule.warmup_share(),
                 {.minimum = 0, .maximum = 1},
                 "give the part of the run in which the learning rate rises; the default is 0.3");
  }
  if (schedule.has_start_divisor()) {
    checker.Real("schedule.one_cycle.start_divisor", schedule.start_divisor(), kDivisor,
                 "the first learning rate is the optimizer's over it; the default is 25");
  }
  if (schedule.has_final_divisor()) {
    checker.Real("schedule.one_cycle.final_divisor", schedule.final_divisor(), kDivisor,
                 "the last learning rate is the first over it; the default is 10000");
  }
}

}  // namespace

void ValidateSchedule(const v1::Schedule& schedule, Checker& checker) {
  switch (schedule.kind_case()) {
    case v1::Schedule::kStep:
      ValidateStep(schedule.step(), checker);
      break;
    case v1::Schedule::kCosine:
      checker.Real("schedule.cosine.final_factor", schedule.cosine().final_factor(),
                   {.minimum = 0, .maximum = 1},
                   "the last learning rate is the optimizer's times it; the default is 0");
      break;
    case v1::Schedule::kOneCycle:
      ValidateOneCycle(schedule.one_cycle(), checker);
      if (schedule.warmup_steps() > 0) {
        checker.Fail("schedule.warmup_steps",
                     absl::StrCat("is ", schedule.warmup_steps(),
                                  ", but one_cycle warms up by itself; leave it out, and see "
                                  "schedule.one_cycle.warmup_share"));
      }
      break;
    case v1::Schedule::kConstant:
    case v1::Schedule::KIND_NOT_SET:
      break;
  }
  checker.Range("schedule.warmup_steps", schedule.warmup_steps(), 0, kMaxSteps,
                "give the number of updates of the linear warm-up; 0 means none");
}

}  // namespace normlab::engine
