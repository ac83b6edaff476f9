#include "absl/strings/str_cat.h"

#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

constexpr int64_t kMaxInt32 = 0x7FFFFFFF;
constexpr int kMaxReestimateBatches = 100000;

void ValidateEvaluation(const v1::Evaluation& evaluation, Checker& checker) {
  checker.Range("evaluation.every_steps", evaluation.every_steps(), 0, kMaxInt32,
                "0 means by epochs, see every_epochs");
  if (evaluation.has_every_epochs()) {
    checker.Range("evaluation.every_epochs", evaluation.every_epochs(), 0, kMaxInt32,
                  "0 means only at the end");
  }
  if (evaluation.every_steps() > 0 && evaluation.every_epochs() > 0) {
    checker.Fail("evaluation.every_epochs",
                 absl::StrCat("is ", evaluation.every_epochs(), " while every_steps is ",
                              evaluation.every_steps(), "; keep one of the two"));
  }
  if (evaluation.has_batch_size()) {
    checker.Range("evaluation.batch_size", evaluation.batch_size(), 1, kMaxBatchSize,
                  "give the examples per evaluation batch; the default is 256");
  }
  checker.Range("evaluation.reestimate_batches", evaluation.reestimate_batches(), 0,
                kMaxReestimateBatches,
                "0 means no second evaluation, and some hundreds are enough");
}

void ValidateCheckpoint(const v1::CheckpointPolicy& checkpoint, Checker& checker) {
  checker.Range("checkpoint.every_steps", checkpoint.every_steps(), 0, kMaxInt32,
                "0 means by time only, see checkpoint.every_time");
  if (!checkpoint.has_every_time()) {
    return;
  }
  const google::protobuf::Duration& time = checkpoint.every_time();
  const bool off = time.seconds() == 0 && time.nanos() == 0;
  const bool well_formed = time.nanos() >= 0 && time.nanos() < 1000000000;
  const bool in_range = time.seconds() >= kMinCheckpointSeconds &&
                        (time.seconds() < kMaxCheckpointSeconds ||
                         (time.seconds() == kMaxCheckpointSeconds && time.nanos() == 0));
  if (!off && !(well_formed && in_range)) {
    checker.Fail(
        "checkpoint.every_time",
        absl::StrCat("is ", time.seconds(), " s and ", time.nanos(), " ns, but must be from ",
                     kMinCheckpointSeconds, " s to ", kMaxCheckpointSeconds,
                     " s; give for example \"300s\" (the default), or \"0s\" for "
                     "checkpoints by every_steps only"));
  }
}

}  // namespace

void ValidateTraining(const v1::JobSpec& spec, Checker& checker) {
  ValidateInitializer(spec.initializer(), checker);
  if (spec.has_initial_weights()) {
    ValidateInitialWeights(spec.initial_weights(), checker);
  }
  ValidateOptimizer(spec.optimizer(), checker);
  ValidateSchedule(spec.schedule(), checker);
  checker.Enum("loss", spec.loss(), v1::Loss::Kind_descriptor());
  if (spec.has_batch_size()) {
    checker.Range("batch_size", spec.batch_size(), 1, kMaxBatchSize,
                  "give the examples per step; the default is 64");
  }
  switch (spec.budget_case()) {
    case v1::JobSpec::kSteps:
      checker.Range("steps", spec.steps(), 1, kMaxSteps, "give the number of updates to train");
      break;
    case v1::JobSpec::kEpochs:
      checker.Range("epochs", spec.epochs(), 1, kMaxEpochs,
                    "give the number of passes over the training set");
      break;
    case v1::JobSpec::BUDGET_NOT_SET:
      break;  // the default: one epoch
  }
  ValidateEvaluation(spec.evaluation(), checker);
  ValidateCheckpoint(spec.checkpoint(), checker);
}

}  // namespace normlab::engine
