#include "engine/data/augmentation.h"

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/data/example_loader.h"
#include "engine/data/testing.h"
#include "engine/spec/resolve.h"

namespace normlab::engine {
namespace {

constexpr DatasetShape kShape = {
    .channels = 2, .height = 5, .width = 7, .classes = 3, .train_examples = 3, .test_examples = 1};

v1::JobSpec Spec(int32_t pad, bool flip, int32_t cutout, uint32_t seed = 4) {
  v1::JobSpec spec;
  spec.mutable_data()->mutable_mnist();
  spec.set_seed(seed);
  v1::Augmentation& augmentation = *spec.mutable_data()->mutable_augmentation();
  augmentation.set_pad_and_crop(pad);
  augmentation.set_flip(flip);
  augmentation.set_cutout(cutout);
  return Resolve(spec);
}

// The definition, pixel by pixel: pad, crop, mirror, cut.
float Expected(const DecodedDataset& data,
               int64_t example,
               int64_t channel,
               int64_t y,
               int64_t x,
               const ImageChange& change,
               const MappedDataset& mapped,
               v1::Scaling::Kind scaling) {
  if (y >= change.cut_top && y < change.cut_bottom && x >= change.cut_left &&
      x < change.cut_right) {
    return 0;
  }
  const int64_t before_flip = change.flip ? kShape.width - 1 - x : x;
  const int64_t from_y = y + change.dy;
  const int64_t from_x = before_flip + change.dx;
  if (from_y < 0 || from_y >= kShape.height || from_x < 0 || from_x >= kShape.width) {
    return 0;
  }
  const int64_t index =
      ((example * kShape.channels + channel) * kShape.height + from_y) * kShape.width + from_x;
  const double mean = mapped.channel_means()[channel];
  const double deviation = mapped.channel_deviations()[channel];
  if (data.shape.floats) {
    const FloatTransform transform = MakeFloatTransform(scaling, mean, deviation);
    return static_cast<float>((double{data.train.floats[index]} - transform.mean) *
                              transform.scale);
  }
  const ByteTransform transform = MakeByteTransform(scaling, mean, deviation);
  return static_cast<float>(data.train.bytes[index]) * transform.scale + transform.shift;
}

TEST(AugmentationTest, ChangedImagesEqualTheDefinitionBitForBit) {
  const std::string path =
      absl::StrCat(::testing::TempDir(), "/augmentation_test.", getpid(), ".nldata");
  for (const bool floats : {false, true}) {
    DecodedDataset data = testing::MakePatterns(kShape, 2);
    if (floats) {
      data.shape.floats = true;
      for (DecodedPart* part : {&data.train, &data.test}) {
        part->floats.assign(part->bytes.begin(), part->bytes.end());
        part->bytes.clear();
      }
    }
    ASSERT_TRUE(WriteDataset(data, path).ok());
    const auto mapped = MappedDataset::Open(path);
    ASSERT_TRUE(mapped.ok());
    for (const auto scaling : {v1::Scaling::STANDARDIZE, v1::Scaling::NONE}) {
      const ExampleLoader loader(scaling, *mapped);
      // Every shift that still shows a pixel, and more; several cuts.
      for (int64_t dy = -kShape.height + 1; dy < kShape.height; ++dy) {
        for (int64_t dx = -kShape.width + 1; dx < kShape.width; ++dx) {
          for (const bool flip : {false, true}) {
            const ImageChange change = {.dy = dy,
                                        .dx = dx,
                                        .flip = flip,
                                        .cut_top = std::abs(dx) % 3,
                                        .cut_bottom = std::abs(dx) % 5,
                                        .cut_left = std::abs(dy),
                                        .cut_right = kShape.width - std::abs(dx) % 2};
            for (int64_t example = 0; example < 3; ++example) {
              std::vector<float> image(70, -99);
              loader.LoadChanged(mapped->train(), example, change, image.data());
              for (int64_t i = 0; i < 70; ++i) {
                ASSERT_EQ(image[i], Expected(data, example, i / 35, i % 35 / 7, i % 7, change,
                                             *mapped, scaling))
                    << "dy " << dy << " dx " << dx << " flip " << flip << " at " << i;
              }
            }
          }
        }
      }
      std::vector<float> plain(70);
      std::vector<float> unchanged(70);
      loader.Load(mapped->train(), 1, plain.data());
      loader.LoadChanged(mapped->train(), 1, {}, unchanged.data());
      EXPECT_EQ(plain, unchanged);
    }
  }
  std::filesystem::remove(path);
}

TEST(AugmentationTest, EveryPlaceIsDrawnAboutEquallyOften) {
  constexpr int64_t kDraws = 20000;
  const Augmentation augmentation(Spec(2, true, 3), kShape);
  int64_t shifts[5][5] = {};
  int64_t flips = 0;
  std::set<int64_t> tops;
  std::set<int64_t> rights;
  for (int64_t n = 0; n < kDraws; ++n) {
    const ImageChange change = augmentation.Draw(n % 10, n / 10);
    ASSERT_LE(std::abs(change.dy), 2);
    ASSERT_LE(std::abs(change.dx), 2);
    ++shifts[change.dy + 2][change.dx + 2];
    flips += change.flip ? 1 : 0;
    ASSERT_GE(change.cut_top, 0);
    ASSERT_LE(change.cut_bottom, kShape.height);
    ASSERT_GE(change.cut_left, 0);
    ASSERT_LE(change.cut_right, kShape.width);
    // Centred on a pixel of the image: two or three rows and columns remain.
    ASSERT_GE(change.cut_bottom - change.cut_top, 2);
    ASSERT_LE(change.cut_bottom - change.cut_top, 3);
    tops.insert(change.cut_top);
    rights.insert(change.cut_right);
  }
  // Binomial: five standard deviations.
  const auto near = [](int64_t count, double share) {
    return std::abs(static_cast<double>(count) - kDraws * share) <
           5 * std::sqrt(kDraws * share * (1 - share));
  };
  for (const auto& row : shifts) {
    for (const int64_t count : row) {
      EXPECT_TRUE(near(count, 1.0 / 25)) << count;
    }
  }
  EXPECT_TRUE(near(flips, 0.5)) << flips;
  EXPECT_THAT(tops, ::testing::ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(rights, ::testing::ElementsAre(2, 3, 4, 5, 6, 7));
}

TEST(AugmentationTest, ChangesFollowFromSeedEpochAndExample) {
  const auto differs = [](const Augmentation& a, const Augmentation& b, int64_t epoch_b,
                          int64_t offset_b) {
    int different = 0;
    for (int64_t n = 0; n < 50; ++n) {
      const ImageChange one = a.Draw(1, n);
      const ImageChange two = b.Draw(epoch_b, n + offset_b);
      different += one.dy != two.dy || one.dx != two.dx || one.cut_top != two.cut_top ? 1 : 0;
    }
    return different;
  };
  const Augmentation augmentation(Spec(2, true, 3), kShape);
  EXPECT_EQ(differs(augmentation, Augmentation(Spec(2, true, 3), kShape), 1, 0), 0);
  EXPECT_GT(differs(augmentation, Augmentation(Spec(2, true, 3, 5), kShape), 1, 0), 25);
  EXPECT_GT(differs(augmentation, augmentation, 2, 0), 25);
  EXPECT_GT(differs(augmentation, augmentation, 1, 1), 25);
  // Each change is the same whatever the others are.
  const Augmentation only_crop(Spec(2, false, 0), kShape);
  const Augmentation only_cut(Spec(0, false, 3), kShape);
  for (int64_t n = 0; n < 50; ++n) {
    EXPECT_EQ(augmentation.Draw(3, n).dx, only_crop.Draw(3, n).dx);
    EXPECT_FALSE(only_crop.Draw(3, n).flip);
    EXPECT_EQ(augmentation.Draw(3, n).cut_left, only_cut.Draw(3, n).cut_left);
    EXPECT_EQ(only_cut.Draw(3, n).dy, 0);
  }
  EXPECT_FALSE(Augmentation(Spec(0, false, 0), kShape).active());
  EXPECT_TRUE(only_cut.active());
}

}  // namespace
}  // namespace normlab::engine
