#include "engine/spec/validate_normalize.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace normlab::engine {
namespace {

v1::Tensor MakeTensor(const std::vector<int64_t>& dims, int values) {
  v1::Tensor tensor;
  tensor.mutable_dims()->Add(dims.begin(), dims.end());
  tensor.mutable_values()->Resize(values, 0.5F);
  return tensor;
}

v1::NormalizeRequest Request(const std::vector<int64_t>& dims, int values) {
  v1::NormalizeRequest request;
  request.mutable_normalizer()->mutable_batch();
  *request.mutable_input() = MakeTensor(dims, values);
  return request;
}

std::vector<std::string> Fields(const v1::NormalizeRequest& request) {
  std::vector<std::string> fields;
  for (const Violation& violation : ValidateNormalize(request)) {
    fields.push_back(violation.field);
    EXPECT_FALSE(violation.description.empty()) << violation.field;
  }
  return fields;
}

using Names = std::vector<std::string>;

TEST(ValidateNormalizeTest, AcceptsDenseFeaturesAndImagesOfAnyNumbers) {
  v1::NormalizeRequest request = Request({3, 5}, 15);
  request.mutable_input()->set_values(2, std::nanf(""));
  request.mutable_input()->set_values(3, std::numeric_limits<float>::infinity());
  *request.mutable_output_gradient() = MakeTensor({3, 5}, 15);
  (*request.mutable_parameters())["alpha"] = MakeTensor({}, 1);
  request.set_statistics(v1::Statistics::INFERENCE);
  EXPECT_EQ(Fields(request), Names{});
  EXPECT_EQ(Fields(Request({2, 3, 5, 1}, 30)), Names{});
  request.clear_normalizer();
  EXPECT_EQ(Fields(request), Names{});
}

TEST(ValidateNormalizeTest, EverySizeIsCheckedAndEveryViolationNamed) {
  EXPECT_EQ(Fields(v1::NormalizeRequest()), Names{"input"});
  EXPECT_EQ(Fields(Request({6}, 6)), Names{"input.dims"});
  EXPECT_EQ(Fields(Request({1, 2, 3}, 6)), Names{"input.dims"});
  EXPECT_EQ(Fields(Request({0, 6}, 0)), Names{"input.dims"});
  EXPECT_EQ(Fields(Request({-2, -3}, 6)), Names{"input.dims"});
  EXPECT_EQ(Fields(Request({2, 3}, 5)), Names{"input.values"});
  // 2^64 elements: the product must not wrap to a number of values that is there.
  EXPECT_EQ(Fields(Request({int64_t{1} << 32, int64_t{1} << 32}, 0)), Names{"input.values"});

  v1::NormalizeRequest request = Request({2, 3}, 6);
  request.mutable_normalizer()->mutable_batch()->set_running_update_rate(2);
  *request.mutable_output_gradient() = MakeTensor({3, 2}, 6);
  (*request.mutable_parameters())["weight"] = MakeTensor({3}, 2);
  (*request.mutable_parameters())["a\x1b"] = MakeTensor({-1}, 2);
  request.set_statistics(static_cast<v1::Statistics::Kind>(9));
  request.set_step(-1);
  EXPECT_EQ(Fields(request), (Names{"normalizer.batch.running_update_rate", "output_gradient.dims",
                                    "parameters[\"a\\x1b\"].dims", "parameters[weight].values",
                                    "statistics", "step"}));
}

TEST(ValidateNormalizeTest, OnlyTensorsBeyondTheLimitAreTooLarge) {
  constexpr int kMost = static_cast<int>(kMaxTensorValues);
  v1::NormalizeRequest request = Request({1, kMost}, kMost);
  EXPECT_EQ(FindTooLargeTensor(request), "");
  *request.mutable_output_gradient() = MakeTensor({1, kMost + 1}, kMost + 1);
  EXPECT_EQ(FindTooLargeTensor(request), "output_gradient");
  request.clear_output_gradient();
  (*request.mutable_parameters())["bias"] = MakeTensor({kMost + 1}, kMost + 1);
  EXPECT_EQ(FindTooLargeTensor(request), "parameters[bias]");
  *request.mutable_input() = MakeTensor({1, kMost + 1}, kMost + 1);
  EXPECT_EQ(FindTooLargeTensor(request), "input");
}

// 1e38 squared is no float; the answer would be zeros that look like statistics.
TEST(ValidateNormalizeTest, FiniteValuesWhoseSquaresOverflowAreRefused) {
  v1::NormalizeRequest request = Request({3, 5}, 15);
  request.mutable_input()->set_values(7, -1e38F);
  EXPECT_EQ(Fields(request), Names{"input.values"});
  request.mutable_input()->set_values(7, -1e18F);
  EXPECT_EQ(Fields(request), Names{});
  request.mutable_input()->set_values(7, 1e38F);
  request.mutable_normalizer()->mutable_none();
  EXPECT_EQ(Fields(request), Names{});
}

TEST(ValidateNormalizeTest, GhostSizesNeedNotDivideABatchThatIsEvaluated) {
  v1::NormalizeRequest request = Request({3, 5}, 15);
  request.mutable_normalizer()->mutable_ghost_batch()->set_ghost_size(2);
  EXPECT_EQ(Fields(request), Names{"normalizer.ghost_batch.ghost_size"});
  request.set_statistics(v1::Statistics::INFERENCE);
  EXPECT_EQ(Fields(request), Names{});
}

}  // namespace
}  // namespace normlab::engine
