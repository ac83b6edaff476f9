#include "engine/data/array_dataset.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

template <typename T>
ArrayPart Part(const std::string& name,
               ElementType type,
               const std::vector<int64_t>& dims,
               const std::vector<T>& values) {
  Array array{.name = name + ".npy", .type = type, .dims = dims, .bytes = {}};
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  array.bytes.assign(bytes, bytes + values.size() * sizeof(T));
  return {.field = "data.arrays." + name, .array = std::move(array)};
}

ArrayPart Bytes(const std::string& name, const std::vector<int64_t>& dims, size_t count) {
  return Part(name, ElementType::kU8, dims, std::vector<uint8_t>(count, 7));
}

ArrayPart Floats(const std::string& name, const std::vector<int64_t>& dims, size_t count) {
  return Part(name, ElementType::kF32, dims, std::vector<float>(count, 0.5F));
}

ArrayPart Labels(const std::string& name, const std::vector<int64_t>& values) {
  return Part(name, ElementType::kI64, {static_cast<int64_t>(values.size())}, values);
}

// 3 + 2 images of 2x4 bytes in 3 classes.
ArrayParts Good() {
  return {.x_train = Bytes("x_train", {3, 2, 4}, 24),
          .y_train = Labels("y_train", {2, 0, 1}),
          .x_test = Bytes("x_test", {2, 2, 4}, 16),
          .y_test = Labels("y_test", {1, 1})};
}

std::vector<std::string> Problems(ArrayParts parts) {
  DataProblems problems;
  EXPECT_FALSE(CombineArrays(std::move(parts), problems).has_value());
  std::vector<std::string> texts;
  for (const Violation& violation : problems.violations) {
    texts.push_back(violation.field + ": " + violation.description);
  }
  return texts;
}

TEST(ArrayDatasetTest, BytesWithClasses) {
  DataProblems problems;
  const auto data = CombineArrays(Good(), problems);
  ASSERT_TRUE(data.has_value()) << problems.violations[0].description;
  EXPECT_EQ(data->shape, (DatasetShape{.channels = 1,
                                       .height = 2,
                                       .width = 4,
                                       .classes = 3,
                                       .train_examples = 3,
                                       .test_examples = 2}));
  EXPECT_THAT(data->train.labels, ElementsAre(2, 0, 1));
  EXPECT_THAT(data->train.floats, IsEmpty());
  EXPECT_EQ(data->test.bytes.size(), 16U);
}

TEST(ArrayDatasetTest, RanksSayWhatAnExampleIs) {
  ArrayParts dense = Good();
  dense.x_train = Floats("x_train", {3, 5}, 15);
  dense.x_test = Floats("x_test", {2, 5}, 10);
  DataProblems problems;
  const auto features = CombineArrays(std::move(dense), problems);
  ASSERT_TRUE(features.has_value());
  EXPECT_TRUE(features->shape.dense);
  EXPECT_TRUE(features->shape.floats);
  EXPECT_EQ(features->shape.channels, 5);
  EXPECT_EQ(features->shape.height, 1);

  ArrayParts colour = Good();
  colour.x_train = Bytes("x_train", {3, 2, 3, 4}, 72);
  colour.x_test = Bytes("x_test", {2, 2, 3, 4}, 48);
  const auto images = CombineArrays(std::move(colour), problems);
  ASSERT_TRUE(images.has_value());
  EXPECT_FALSE(images->shape.dense);
  EXPECT_EQ(InputDims(images->shape), (std::vector<int64_t>{2, 3, 4}));
}

TEST(ArrayDatasetTest, FloatTargetsAreRegression) {
  for (const bool columns : {false, true}) {
    ArrayParts parts = Good();
    parts.y_train = Floats(
        "y_train", columns ? std::vector<int64_t>{3, 2} : std::vector<int64_t>{3}, columns ? 6 : 3);
    parts.y_test = Floats("y_test", columns ? std::vector<int64_t>{2, 2} : std::vector<int64_t>{2},
                          columns ? 4 : 2);
    DataProblems problems;
    const auto data = CombineArrays(std::move(parts), problems);
    ASSERT_TRUE(data.has_value());
    EXPECT_EQ(data->shape.classes, 0);
    EXPECT_EQ(data->shape.targets, columns ? 2 : 1);
    EXPECT_THAT(data->train.labels, IsEmpty());
  }
}

TEST(ArrayDatasetTest, ClassesAreCountedAndMayBeMissingInBetween) {
  ArrayParts parts = Good();
  parts.y_train = Labels("y_train", {1, 40, 2});
  parts.y_test = Labels("y_test", {1, 40});
  DataProblems problems;
  EXPECT_EQ(CombineArrays(std::move(parts), problems)->shape.classes, 41);
}

TEST(ArrayDatasetTest, AClassOnlyOfTheTestSetIsRefusedWithItsIndex) {
  for (const int32_t foreign : {40, 1}) {
    ArrayParts parts = Good();
    parts.y_train = Labels("y_train", {2, 0, 2});
    parts.y_test = Labels("y_test", {2, foreign});
    EXPECT_THAT(Problems(std::move(parts)),
                ElementsAre(AllOf(HasSubstr("data.arrays.y_test"),
                                  HasSubstr(absl::StrCat("class ", foreign, " at index 1")))));
  }
}

TEST(ArrayDatasetTest, PartsThatDoNotFitTogetherAreNamedWithBothSizes) {
  ArrayParts parts = Good();
  parts.y_train = Labels("y_train", {2, 0, 1, 1});
  parts.x_test = Bytes("x_test", {2, 4, 2}, 16);
  EXPECT_THAT(Problems(std::move(parts)),
              ElementsAre(AllOf(HasSubstr("data.arrays.x_test: x_test.npy is [2, 4, 2] of uint8"),
                                HasSubstr("x_train.npy is [3, 2, 4] of uint8")),
                          AllOf(HasSubstr("data.arrays.y_train: y_train.npy has 4 targets"),
                                HasSubstr("x_train.npy has 3 examples"))));
  parts = Good();
  parts.x_test = Floats("x_test", {2, 2, 4}, 16);
  parts.y_test = Floats("y_test", {2, 1}, 2);
  EXPECT_THAT(Problems(std::move(parts)),
              ElementsAre(HasSubstr("both be uint8 or floats"), HasSubstr("floats of one width")));
}

TEST(ArrayDatasetTest, ArraysOfOtherShapesAndTypesSayWhatIsMeant) {
  ArrayParts parts = Good();
  parts.x_train = Labels("x_train", {1, 2, 3});
  EXPECT_THAT(Problems(std::move(parts)), ElementsAre(HasSubstr("inputs must be uint8 or floats")));
  parts = Good();
  parts.x_train = Bytes("x_train", {3}, 3);
  EXPECT_THAT(Problems(std::move(parts)), ElementsAre(HasSubstr("must be [N, D], [N, H, W]")));
  parts = Good();
  parts.x_test = Bytes("x_test", {0, 2, 4}, 0);
  EXPECT_THAT(Problems(std::move(parts)), ElementsAre(HasSubstr("from 1 to")));
  parts = Good();
  parts.x_train = Bytes("x_train", {1, 65537}, 65537);
  EXPECT_THAT(Problems(std::move(parts)), ElementsAre(HasSubstr("65536 features")));
  parts = Good();
  parts.y_test = Part<int64_t>("y_test", ElementType::kI64, {2, 1}, {1, 1});
  EXPECT_THAT(Problems(std::move(parts)), ElementsAre(HasSubstr("integers [N]")));
  parts = Good();
  parts.y_train = Labels("y_train", {0, 0, 0});
  parts.y_test = Labels("y_test", {0, 0});
  EXPECT_THAT(Problems(std::move(parts)), ElementsAre(HasSubstr("no class but 0")));
  parts = Good();
  parts.y_train = Labels("y_train", {0, -1, 0});
  parts.y_test.array = absl::InternalError("gone");
  DataProblems problems;
  EXPECT_FALSE(CombineArrays(std::move(parts), problems).has_value());
  EXPECT_FALSE(problems.lasting);
  parts = Good();
  parts.y_train = Labels("y_train", {0, -1, 0});
  EXPECT_THAT(Problems(std::move(parts)), ElementsAre(HasSubstr("label -1 at index 1")));
}

}  // namespace
}  // namespace normlab::engine
