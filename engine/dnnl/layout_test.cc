#include "engine/dnnl/layout.h"

#include <cmath>
#include <limits>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/dnnl/internal.h"
#include "engine/dnnl/testing.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using testing::Store;
using testing::Values;
using Tag = dnnl::memory::format_tag;

Layout Tagged(const std::vector<int64_t>& dims, Tag tag) {
  return Layout(Layout::Impl{dnnl::memory::desc(dims, dnnl::memory::data_type::f32, tag)});
}

int64_t Product(const std::vector<int64_t>& dims) {
  int64_t product = 1;
  for (const int64_t size : dims) {
    product *= size;
  }
  return product;
}

// 0, 1, 2, ... modulo 251: exact in bf16, and a prime, so that no axis hides a wrong stride.
Values Numbered(int64_t count) {
  Values values;
  for (int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<double>(i % 251));
  }
  return values;
}

float At(const Layout& layout, const std::vector<std::byte>& memory, int64_t index) {
  if (layout.type() == DataType::kBf16) {
    return FromBf16(reinterpret_cast<const uint16_t*>(memory.data())[index]);
  }
  return reinterpret_cast<const float*>(memory.data())[index];
}

TEST(DataTypeTest, RoundsToTheNearestTiesToEven) {
  constexpr float kUlp = 0x1p-7F;  // of bf16 between 1 and 2
  EXPECT_EQ(FromBf16(ToBf16(1)), 1);
  EXPECT_EQ(FromBf16(ToBf16(1 + 0.49F * kUlp)), 1);
  EXPECT_EQ(FromBf16(ToBf16(1 + 0.51F * kUlp)), 1 + kUlp);
  EXPECT_EQ(FromBf16(ToBf16(1 + 0.5F * kUlp)), 1) << "a tie to the even one below";
  EXPECT_EQ(FromBf16(ToBf16(1 + 1.5F * kUlp)), 1 + 2 * kUlp) << "a tie to the even one above";
  EXPECT_EQ(FromBf16(ToBf16(-(1 + 1.5F * kUlp))), -(1 + 2 * kUlp));
  EXPECT_EQ(FromBf16(ToBf16(std::numeric_limits<float>::max())),
            std::numeric_limits<float>::infinity());
  EXPECT_EQ(FromBf16(ToBf16(-std::numeric_limits<float>::infinity())),
            -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(FromBf16(ToBf16(std::numeric_limits<float>::quiet_NaN()))));
  // The payload lies in the half that is cut off.
  EXPECT_TRUE(std::isnan(FromBf16(ToBf16(std::bit_cast<float>(0x7f800001U)))));
}

TEST(LayoutTest, KnowsItsShapeTypeAndOrder) {
  const Layout plain = Layout::RowMajor({2, 3, 5, 7});
  EXPECT_THAT(plain.dims(), ElementsAre(2, 3, 5, 7));
  EXPECT_EQ(plain.bytes(), 2 * 3 * 5 * 7 * 4);
  EXPECT_EQ(plain.element_count(), 2 * 3 * 5 * 7);
  EXPECT_EQ(plain.type(), DataType::kF32);
  EXPECT_TRUE(plain.is_row_major());
  EXPECT_EQ(plain.ToString(), "2x3x5x7");
  const Layout last = Layout::ChannelsLast({2, 3, 5, 7});
  EXPECT_FALSE(last.is_row_major());
  EXPECT_EQ(last.ToString(), "2x3x5x7 channels last");
  EXPECT_NE(plain, last);
  EXPECT_EQ(plain, Layout::RowMajor({2, 3, 5, 7}));
  EXPECT_TRUE(Layout().empty());
  EXPECT_EQ(Layout().ToString(), "none");
  EXPECT_THAT(Layout::RowMajor({2, 3, 4, 5, 6}).dims(), ElementsAre(2, 3, 4, 5, 6));
  EXPECT_TRUE(Layout::RowMajor({2, 3, 4, 5, 6, 7}).is_row_major());
}

TEST(LayoutTest, Bf16HalvesTheBytes) {
  const Layout plain = Layout::RowMajor({3, 5}, DataType::kBf16);
  EXPECT_EQ(plain.type(), DataType::kBf16);
  EXPECT_EQ(plain.bytes(), 3 * 5 * 2);
  EXPECT_EQ(plain.element_count(), 3 * 5);
  EXPECT_TRUE(plain.is_row_major());
  EXPECT_EQ(plain.ToString(), "3x5 bf16");
  EXPECT_NE(plain, Layout::RowMajor({3, 5}));
  EXPECT_EQ(plain, Layout::RowMajor({3, 5}).WithType(DataType::kBf16));
  EXPECT_EQ(Layout::ChannelsLast({2, 3, 5, 7}, DataType::kBf16).ToString(),
            "2x3x5x7 bf16 channels last");
  EXPECT_EQ(Layout::Any({3, 5}, DataType::kBf16), Layout::Any({3, 5}).WithType(DataType::kBf16));
  EXPECT_TRUE(Layout().WithType(DataType::kBf16).empty());
}

TEST(LayoutTest, BlockedChannelsArePadded) {
  const Layout blocked = Tagged({2, 19, 3, 5}, Tag::aBcd16b);
  EXPECT_EQ(blocked.element_count(), 2 * 32 * 3 * 5);
  EXPECT_EQ(blocked.WithType(DataType::kBf16).element_count(), 2 * 32 * 3 * 5);
  EXPECT_EQ(blocked.ToString(), "2x19x3x5 blocked");
}

// Changing the type must keep every element where it is, padding included.
TEST(LayoutTest, WithTypeKeepsTheOrder) {
  if (!HasBf16Kernels()) {
    GTEST_SKIP() << "no bf16 instructions for oneDNN on this machine";
  }
  const std::pair<std::vector<int64_t>, Tag> cases[] = {
      {{7}, Tag::a},
      {{5, 7}, Tag::ab},
      {{5, 7}, Tag::ba},
      {{2, 19, 3, 5}, Tag::abcd},
      {{2, 19, 3, 5}, Tag::acdb},
      {{2, 19, 3, 5}, Tag::aBcd8b},
      {{2, 19, 3, 5}, Tag::aBcd16b},
      {{19, 18, 3, 3}, Tag::OIhw16i16o},
      {{19, 18, 3, 3}, Tag::OIhw8i16o2i},
      {{3, 19, 18, 3, 3}, Tag::gOIhw16i16o},
  };
  for (const auto& [dims, tag] : cases) {
    const Layout single = Tagged(dims, tag);
    SCOPED_TRACE(single.ToString());
    const Layout half = single.WithType(DataType::kBf16);
    ASSERT_EQ(half.type(), DataType::kBf16);
    EXPECT_EQ(half.dims(), dims);
    ASSERT_EQ(half.element_count(), single.element_count());
    EXPECT_EQ(half.WithType(DataType::kF32), single);
    std::vector<std::byte> single_memory(static_cast<size_t>(single.bytes()));
    std::vector<std::byte> half_memory(static_cast<size_t>(half.bytes()));
    const Values values = Numbered(Product(dims));
    Store(values, single, single_memory.data());
    Store(values, half, half_memory.data());
    for (int64_t i = 0; i < single.element_count(); ++i) {
      ASSERT_EQ(At(single, single_memory, i), At(half, half_memory, i)) << "element " << i;
    }
  }
}

struct BlockingCase {
  std::vector<int64_t> dims;
  Tag tag;
  int64_t block;
};

// The formula of ChannelBlocking must find every element in memory that oneDNN has filled.
TEST(ChannelBlockingTest, FindsEveryElement) {
  const BlockingCase cases[] = {
      {{3, 7}, Tag::ab, 7},
      {{3, 1}, Tag::ab, 1},
      {{1, 7}, Tag::ab, 7},
      {{2, 19, 3, 5}, Tag::abcd, 1},
      {{2, 19, 3, 5}, Tag::acdb, 19},
      {{2, 19, 3, 5}, Tag::aBcd4b, 4},
      {{2, 19, 3, 5}, Tag::aBcd8b, 8},
      {{2, 19, 3, 5}, Tag::aBcd16b, 16},
      {{2, 16, 3, 5}, Tag::aBcd16b, 16},
      {{2, 3, 4, 5}, Tag::aBcd16b, 16},
      {{1, 19, 3, 1}, Tag::abcd, 1},
      {{1, 19, 1, 5}, Tag::acdb, 19},
      {{2, 1, 3, 5}, Tag::aBcd8b, 8},
      // Orders that coincide.
      {{2, 1, 3, 5}, Tag::abcd, 1},
      {{2, 1, 3, 5}, Tag::acdb, 1},
      {{2, 19, 1, 1}, Tag::abcd, 19},
      {{2, 19, 1, 1}, Tag::acdb, 19},
      {{2, 19, 1, 1}, Tag::aBcd8b, 8},
      {{1, 1, 1, 1}, Tag::abcd, 1},
  };
  for (const BlockingCase& test : cases) {
    for (const DataType type : {DataType::kF32, DataType::kBf16}) {
      if (type == DataType::kBf16 && !HasBf16Kernels()) {
        continue;
      }
      const Layout layout = Tagged(test.dims, test.tag).WithType(type);
      SCOPED_TRACE(layout.ToString());
      const std::optional<ChannelBlocking> blocking = layout.channel_blocking();
      ASSERT_TRUE(blocking.has_value());
      EXPECT_EQ(blocking->block, test.block);
      EXPECT_EQ(blocking->batch, test.dims[0]);
      EXPECT_EQ(blocking->channels, test.dims[1]);
      EXPECT_EQ(blocking->batch * blocking->channels * blocking->area, Product(test.dims));
      EXPECT_EQ(blocking->batch * blocking->blocks() * blocking->area * blocking->block,
                layout.element_count());
      std::vector<std::byte> memory(static_cast<size_t>(layout.bytes()));
      const Values values = Numbered(Product(test.dims));
      Store(values, layout, memory.data());
      for (int64_t n = 0; n < blocking->batch; ++n) {
        for (int64_t c = 0; c < blocking->channels; ++c) {
          for (int64_t p = 0; p < blocking->area; ++p) {
            const int64_t at =
                ((n * blocking->blocks() + c / blocking->block) * blocking->area + p) *
                    blocking->block +
                c % blocking->block;
            const int64_t logical = (n * blocking->channels + c) * blocking->area + p;
            ASSERT_EQ(At(layout, memory, at), values[static_cast<size_t>(logical)])
                << "n " << n << " c " << c << " p " << p;
          }
        }
      }
    }
  }
}

TEST(ChannelBlockingTest, NoneForOtherOrders) {
  EXPECT_FALSE(Layout().channel_blocking().has_value());
  EXPECT_FALSE(Layout::Any({2, 19, 3, 5}).channel_blocking().has_value());
  EXPECT_FALSE(Layout::RowMajor({7}).channel_blocking().has_value());
  EXPECT_FALSE(Layout::RowMajor({2, 3, 5}).channel_blocking().has_value());
  EXPECT_FALSE(Layout::RowMajor({2, 2, 3, 5, 7}).channel_blocking().has_value());
  EXPECT_FALSE(Tagged({5, 7}, Tag::ba).channel_blocking().has_value());
  EXPECT_FALSE(Tagged({2, 19, 3, 5}, Tag::abdc).channel_blocking().has_value());
  EXPECT_FALSE(Tagged({2, 19, 3, 5}, Tag::cdba).channel_blocking().has_value());
  EXPECT_FALSE(Tagged({2, 19, 3, 5}, Tag::ABcd16b16a).channel_blocking().has_value());
  EXPECT_FALSE(Tagged({2, 19, 3, 5}, Tag::Abcd16a).channel_blocking().has_value());
}

}  // namespace
}  // namespace normlab::engine
