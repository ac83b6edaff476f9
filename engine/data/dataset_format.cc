#include "engine/data/dataset_format.h"

#include "absl/strings/string_view.h"

#include "common/sha256.h"
#include "engine/spec/limits.h"

namespace normlab::engine::dataset_format {
namespace {

bool Within(int64_t value, int64_t minimum, int64_t maximum) {
  return value >= minimum && value <= maximum;
}

int64_t Aligned(int64_t offset) {
  return (offset + kAlignment - 1) / kAlignment * kAlignment;
}

// Places a part from `offset` on; returns the end.
int64_t Place(const DatasetShape& shape, int64_t examples, int64_t offset, Layout::Part& part) {
  constexpr int64_t kFloat = sizeof(float);
  part.values = offset;
  part.values_bytes = examples * shape.example_values() * (shape.floats ? kFloat : 1);
  part.answers = Aligned(part.values + part.values_bytes);
  part.answers_bytes = examples * (shape.targets > 0 ? shape.targets : 1) * kFloat;
  return Aligned(part.answers + part.answers_bytes);
}

}  // namespace

Layout LayoutOf(const DatasetShape& shape) {
  const int64_t moments = int64_t{shape.channels} * static_cast<int64_t>(sizeof(double));
  Layout layout;
  layout.means = kHeaderBytes;
  layout.deviations = Aligned(layout.means + moments);
  layout.end = Aligned(layout.deviations + moments);
  layout.end = Place(shape, shape.train_examples, layout.end, layout.train);
  layout.end = Place(shape, shape.test_examples, layout.end, layout.test);
  return layout;
}

bool IsPlausible(const DatasetShape& shape) {
  const bool sizes =
      shape.dense
          ? Within(shape.channels, 1, kMaxFeatures) && shape.height == 1 && shape.width == 1
          : Within(shape.channels, 1, kMaxChannels) && Within(shape.height, 1, kMaxImageSide) &&
                Within(shape.width, 1, kMaxImageSide);
  const bool answers = shape.targets == 0
                           ? Within(shape.classes, 1, kMaxClasses)
                           : shape.classes == 0 && Within(shape.targets, 1, kMaxFeatures);
  return sizes && answers && Within(shape.train_examples, 1, kMaxExamples) &&
         Within(shape.test_examples, 1, kMaxExamples) &&
         // 2^36 values times 2^31 examples passes 2^63.
         static_cast<double>(shape.example_values()) *
                 (static_cast<double>(shape.train_examples) + shape.test_examples) <=
             static_cast<double>(kMaxDatasetBytes) &&
         DecodedBytes(shape) <= kMaxDatasetBytes;
}

std::string HeaderDigest(const Header& header) {
  return common::Sha256Bytes(
      absl::string_view(reinterpret_cast<const char*>(&header), offsetof(Header, header_sha256)));
}

std::string SetSha256(const Header& header) {
  constexpr size_t kBegin = offsetof(Header, channels);
  return common::Sha256Hex(absl::string_view(reinterpret_cast<const char*>(&header) + kBegin,
                                             offsetof(Header, header_sha256) - kBegin));
}

}  // namespace normlab::engine::dataset_format
