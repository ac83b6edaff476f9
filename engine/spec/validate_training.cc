#include "absl/strings/str_cat.h"

#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

constexpr int64_t kMaxInt32 = 0x7FFFFFFF;

void ValidateFolder(absl::string_view field, const v1::IdxImages& images, Checker& checker) {
  const std::string& path = images.path();
  if (path.find('\0') != std::string::npos) {
    checker.Fail(field, absl::StrCat("is ", Quoted(path), ", which has a zero byte; remove it"));
  }
  if (static_cast<int64_t>(path.size()) > kMaxPathBytes) {
    checker.Fail(field, absl::StrCat("has ", path.size(), " bytes, but a path has at most ",
                                     kMaxPathBytes, "; move the files to a shorter one"));
  }
}

void ValidateSgd(const v1::Sgd& sgd, Checker& checker) {
  if (sgd.has_learning_rate()) {
    checker.Real("optimizer.sgd.learning_rate", sgd.learning_rate(),
                 {.minimum = 0, .maximum = kMaxReal}, "the default is 0.1");
  }
  checker.Real("optimizer.sgd.momentum", sgd.momentum(),
               {.minimum = 0, .maximum = 1, .open_maximum = true}, "usual values are 0 and 0.9");
  checker.Real("optimizer.sgd.weight_decay", sgd.weight_decay(),
               {.minimum = 0, .maximum = kMaxReal}, "usual values are 0 and 1e-4");
}

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
}

}  // namespace

void ValidateData(const v1::JobSpec& spec, Checker& checker) {
  const v1::Data& data = spec.data();
  switch (data.source_case()) {
    case v1::Data::kFashionMnist:
      ValidateFolder("data.fashion_mnist.path", data.fashion_mnist(), checker);
      break;
    case v1::Data::kMnist:
      ValidateFolder("data.mnist.path", data.mnist(), checker);
      break;
    case v1::Data::SOURCE_NOT_SET:
      checker.Fail(
          "data", "names no data set; give for example {\"fashion_mnist\": {}} or {\"mnist\": {}}");
      break;
  }
  checker.Enum("data.scaling", data.scaling(), v1::Scaling::Kind_descriptor());
  checker.Enum("data.last_batch", data.last_batch(), v1::LastBatch::Kind_descriptor());
  checker.Range("data.train_limit", data.train_limit(), 0, kMaxInt32, "0 means all examples");
  checker.Range("data.test_limit", data.test_limit(), 0, kMaxInt32, "0 means all examples");
}

void ValidateTraining(const v1::JobSpec& spec, Checker& checker) {
  if (spec.initializer().has_scale()) {
    checker.Real("initializer.scale", spec.initializer().scale(),
                 {.minimum = 0, .maximum = kMaxReal},
                 "it multiplies every initial weight; the default is 1");
  }
  if (spec.optimizer().has_sgd()) {
    ValidateSgd(spec.optimizer().sgd(), checker);
  }
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
  checker.Range("checkpoint.every_steps", spec.checkpoint().every_steps(), 0, kMaxInt32,
                "0 means no checkpoints but the final weights");
}

}  // namespace normlab::engine
