#include "engine/spec/schedule_warnings.h"

#include "absl/strings/str_cat.h"

namespace normlab::engine {

std::vector<std::string> ScheduleWarnings(const v1::JobSpec& resolved, const RunLength& length) {
  std::vector<std::string> warnings;
  const v1::Schedule& schedule = resolved.schedule();
  if (length.total_steps == 0) {
    return warnings;
  }
  if (schedule.has_step()) {
    const v1::StepSchedule& step = schedule.step();
    if (step.milestone_steps().empty() && step.milestone_epochs().empty()) {
      warnings.emplace_back(
          "schedule.step has no milestones, so the learning rate never changes; give "
          "milestone_steps or milestone_epochs");
    }
    // They increase, so the first one that is too late tells of all that follow.
    for (const int32_t milestone : step.milestone_steps()) {
      if (milestone >= length.total_steps) {
        warnings.push_back(absl::StrCat(
            "the milestone at step ", milestone, " is never reached, because the run has ",
            length.total_steps, " steps; train longer, or leave it out"));
        break;
      }
    }
    for (const int32_t milestone : step.milestone_epochs()) {
      if (milestone * length.steps_per_epoch >= length.total_steps) {
        warnings.push_back(absl::StrCat("the milestone at epoch ", milestone,
                                        " is never reached, because the run ends after ",
                                        length.total_steps, " steps of ", length.steps_per_epoch,
                                        " an epoch; train longer, or leave it out"));
        break;
      }
    }
  }
  if (schedule.warmup_steps() >= length.total_steps) {
    warnings.push_back(absl::StrCat("the warm-up of ", schedule.warmup_steps(),
                                    " steps lasts as long as the whole run of ", length.total_steps,
                                    "; use fewer schedule.warmup_steps"));
  }
  return warnings;
}

}  // namespace normlab::engine
