#include "server/scheduler/job_data.h"

#include "absl/strings/str_cat.h"

#include "engine/spec/run_length.h"

namespace normlab::server {
namespace {

engine::DatasetShape ShapeOf(const v1::DataSummary& data) {
  return {.channels = data.channels(),
          .height = data.height(),
          .width = data.width(),
          .classes = data.classes(),
          .train_examples = data.train_examples(),
          .test_examples = data.test_examples(),
          .targets = data.targets(),
          .dense = data.dense(),
          .floats = data.floats()};
}

v1::DataSummary SummaryOf(const v1::DataReport& report) {
  v1::DataSummary data;
  data.set_channels(report.channels());
  data.set_height(report.height());
  data.set_width(report.width());
  data.set_dense(report.dense());
  data.set_classes(report.classes());
  data.set_targets(report.targets());
  data.set_train_examples(report.train_examples());
  data.set_test_examples(report.test_examples());
  data.set_floats(report.floats());
  return data;
}

std::string Describe(const engine::DatasetShape& shape) {
  return absl::StrCat(
      shape.train_examples, " training and ", shape.test_examples, " test examples of ",
      shape.dense ? absl::StrCat(shape.channels, " features")
                  : absl::StrCat(shape.channels, "x", shape.height, "x", shape.width),
      shape.floats ? " floats" : " bytes", ", ",
      shape.targets > 0 ? absl::StrCat(shape.targets, " targets")
                        : absl::StrCat(shape.classes, " classes"));
}

}  // namespace

std::string CorrectData(const v1::DataReport& report, v1::Job& job) {
  if (!job.has_data() || report.train_examples() == 0) {
    return "";
  }
  const v1::DataSummary now = SummaryOf(report);
  const engine::DatasetShape before = ShapeOf(job.data());
  const engine::DatasetShape shape = ShapeOf(now);
  if (shape == before) {
    return "";
  }
  const int64_t steps_before = job.progress().total_steps();
  const engine::RunLength length = engine::ComputeRunLength(job.resolved_spec(), shape);
  *job.mutable_data() = now;
  job.mutable_progress()->set_total_steps(length.total_steps);
  job.mutable_progress()->set_total_epochs(static_cast<int32_t>(length.total_epochs));
  return absl::StrCat("the data set changed since the job was accepted: it had ", Describe(before),
                      ", and has ", Describe(shape), " now; the run takes it as it is and has ",
                      length.total_steps, " steps instead of ", steps_before,
                      ". Cancel the job if that is not meant");
}

}  // namespace normlab::server
