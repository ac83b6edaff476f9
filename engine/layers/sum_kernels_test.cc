#include "engine/layers/sum_kernels.h"

#include <omp.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "engine/layers/elementwise.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using testing::Random;
using testing::Tensor;

// A tensor of either type over memory of its own.
class Values {
 public:
  Values(DataType type, const Tensor& values)
      : memory_(values.size() * static_cast<size_t>(BytesPerElement(type))) {
    buffer_.bytes = static_cast<int64_t>(memory_.size());
    buffer_.data = memory_.data();
    view_ = {Layout::RowMajor({static_cast<int64_t>(values.size())}, type), &buffer_};
    for (size_t i = 0; i < values.size(); ++i) {
      const auto value = static_cast<float>(values[i]);
      if (type == DataType::kBf16) {
        view_.bf16s()[i] = ToBf16(value);
      } else {
        view_.floats()[i] = value;
      }
    }
  }
  Values(const Values&) = delete;
  Values& operator=(const Values&) = delete;

  const View& view() const { return view_; }
  float at(size_t i) const {
    return view_.layout.type() == DataType::kBf16 ? FromBf16(view_.bf16s()[i]) : view_.floats()[i];
  }

 private:
  std::vector<std::byte> memory_;
  Buffer buffer_;
  View view_;
};

float Rounded(DataType type, float value) {
  return type == DataType::kBf16 ? FromBf16(ToBf16(value)) : value;
}

TEST(SumKernelsTest, BothTypesAreExactUpToOneRounding) {
  for (const DataType type : {DataType::kF32, DataType::kBf16}) {
    for (const int64_t count : {int64_t{1}, int64_t{37}, 2 * kSmallTensorElements + 5}) {
      for (const int threads : {1, 2}) {
        omp_set_num_threads(threads);
        const Values a(type, Random("a", count));
        const Values b(type, Random("b", count));
        const Tensor zeros(static_cast<size_t>(count));
        const Values sum(type, zeros), relu(type, zeros), mask(type, zeros), both(type, zeros);
        Sum(a.view(), b.view(), sum.view());
        SumRelu(a.view(), b.view(), relu.view());
        MaskByOutput(relu.view(), b.view(), mask.view());
        SumMaskedByOutput(b.view(), a.view(), b.view(), both.view());
        for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
          const float expected = Rounded(type, a.at(i) + b.at(i));
          ASSERT_EQ(sum.at(i), expected) << i;
          ASSERT_EQ(relu.at(i), expected < 0 ? 0 : expected) << i;
          ASSERT_EQ(mask.at(i), expected > 0 ? b.at(i) : 0) << i;
          ASSERT_EQ(both.at(i), b.at(i) > 0 ? expected : 0) << i;
        }
      }
    }
  }
}

TEST(SumKernelsTest, NanStays) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const DataType type : {DataType::kF32, DataType::kBf16}) {
    const Values a(type, {1, nan, -3});
    const Values b(type, {2, 5, nan});
    const Values y(type, {0, 0, 0});
    SumRelu(a.view(), b.view(), y.view());
    EXPECT_EQ(y.at(0), 3);
    EXPECT_TRUE(std::isnan(y.at(1)));
    EXPECT_TRUE(std::isnan(y.at(2)));
    const Values d_x(type, {0, 0, 0});
    MaskByOutput(y.view(), a.view(), d_x.view());
    EXPECT_EQ(d_x.at(0), 1);
    EXPECT_EQ(d_x.at(2), -3);
  }
}

TEST(SumKernelsTest, WorksInPlace) {
  for (const DataType type : {DataType::kF32, DataType::kBf16}) {
    const Values a(type, {1, -2, 3});
    const Values b(type, {4, 1, -8});
    Sum(a.view(), b.view(), a.view());
    EXPECT_EQ(a.at(0), 5);
    EXPECT_EQ(a.at(1), -1);
    EXPECT_EQ(a.at(2), -5);
  }
}

}  // namespace
}  // namespace normlab::engine
