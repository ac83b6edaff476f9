#include "engine/worker/inspect_job.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "common/ids.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/dnnl/runtime.h"
#include "engine/spec/resolve.h"

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kSpec[] = R"(
  model { mlp { hidden: 3 } }
  normalization { batch {} }
  data { gaussian_classes { dims: 5 classes: 2 train_examples: 40 test_examples: 10 } }
  batch_size: 8
)";

struct NamedTensor {
  std::string name;
  Dims dims;
};

// All that the network of kSpec has but its running statistics.
const std::vector<NamedTensor>& Fitting() {
  static const auto& tensors = *new std::vector<NamedTensor>{{"fc1.weight", {3, 5}},
                                                             {"bn1.weight", {3}},
                                                             {"bn1.bias", {3}},
                                                             {"head.weight", {2, 3}},
                                                             {"head.bias", {2}}};
  return tensors;
}

class InspectJobTest : public ::testing::Test {
 protected:
  InspectJobTest() : folder_(absl::StrCat(::testing::TempDir(), "/", common::NewId(absl::Now()))) {
    std::filesystem::create_directories(folder_ + "/roots");
  }
  ~InspectJobTest() override { std::filesystem::remove_all(folder_); }

  void WriteWeights(const std::vector<NamedTensor>& tensors) {
    const std::vector<float> values(100, 0.5F);
    std::vector<ConstTensor> all;
    for (const NamedTensor& tensor : tensors) {
      all.push_back(
          {tensor.name, tensor.dims,
           absl::MakeConstSpan(values).first(static_cast<size_t>(ElementCount(tensor.dims)))});
    }
    std::ofstream(folder_ + "/roots/w.safetensors", std::ios::binary) << EncodeSafetensors(all);
  }

  v1::DataReport Inspect(const std::string& more) {
    v1::JobSpec spec;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(absl::StrCat(kSpec, more), &spec));
    const v1::JobSpec resolved = Resolve(spec);
    v1::InspectDataRequest request;
    *request.mutable_data() = resolved.data();
    request.add_data_roots(folder_ + "/roots");
    request.set_cache_folder(folder_ + "/cache");
    if (resolved.has_initial_weights()) {
      *request.mutable_initial_weights() = resolved.initial_weights();
    }
    request.set_precision(resolved.precision());
    *request.mutable_resolved_spec() = resolved;
    return InspectJob(inspector_, request);
  }

  const std::string folder_;
  DataInspector inspector_;
};

TEST_F(InspectJobTest, WeightsThatFitAreAccepted) {
  WriteWeights(Fitting());
  const v1::DataReport report = Inspect(R"(initial_weights { path: "w.safetensors" })");
  EXPECT_EQ(report.violations_size(), 0) << report.ShortDebugString();
  EXPECT_EQ(report.warnings_size(), 0) << report.ShortDebugString();
  EXPECT_EQ(report.train_examples(), 40);
}

TEST_F(InspectJobTest, WeightsThatDoNotFitNameEveryTensorOnce) {
  std::vector<NamedTensor> tensors = Fitting();
  tensors[0].dims = {3, 7};
  tensors.pop_back();
  tensors.push_back({"extra.weight", {2}});
  WriteWeights(tensors);
  const v1::DataReport report = Inspect(R"(initial_weights { path: "w.safetensors" })");
  ASSERT_EQ(report.violations_size(), 1) << report.ShortDebugString();
  EXPECT_EQ(report.violations(0).field(), "initial_weights.path");
  EXPECT_THAT(report.violations(0).description(),
              AllOf(HasSubstr("\"fc1.weight\" of 3x7, but in this network it is 3x5"),
                    HasSubstr("no tensor \"head.bias\""), HasSubstr("\"extra.weight\""),
                    HasSubstr("initial_weights.ignore")));
  // The shape of the data is told all the same.
  EXPECT_EQ(report.channels(), 5);

  const v1::DataReport ignoring = Inspect(
      R"(initial_weights { path: "w.safetensors" ignore: ["extra.*", "fc1.weight", "head.bias"] })");
  EXPECT_EQ(ignoring.violations_size(), 0) << ignoring.ShortDebugString();
}

TEST_F(InspectJobTest, PatternsThatMatchNothingAreAWarning) {
  WriteWeights(Fitting());
  const v1::DataReport report =
      Inspect(R"(initial_weights { path: "w.safetensors" ignore: ["hed.*", "bn1.running_*"] })");
  EXPECT_EQ(report.violations_size(), 0) << report.ShortDebugString();
  ASSERT_EQ(report.warnings_size(), 1) << report.ShortDebugString();
  EXPECT_THAT(report.warnings(0), HasSubstr("\"hed.*\""));
}

TEST_F(InspectJobTest, Bf16IsRefusedWhereItCannotBeComputed) {
  const v1::DataReport report = Inspect("precision: BF16");
  if (ComputesInBf16()) {
    EXPECT_EQ(report.violations_size(), 0) << report.ShortDebugString();
  } else {
    ASSERT_EQ(report.violations_size(), 1) << report.ShortDebugString();
    EXPECT_EQ(report.violations(0).field(), "precision");
    EXPECT_THAT(report.violations(0).description(), HasSubstr("use F32"));
  }
  EXPECT_EQ(Inspect("precision: F32").violations_size(), 0);
}

}  // namespace
}  // namespace normlab::engine
