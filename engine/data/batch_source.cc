#include "engine/data/batch_source.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

constexpr int64_t kCacheLine = 64;
// Examples are read in random order, so their memory is far away: the next batch's is asked for
// while this one trains, as far as a part of the second-level cache holds it.
constexpr int64_t kPrefetchedBytes = int64_t{256} << 10;

// to[i] = from[i] * scale + shift. A table of 256 floats would give the same bits, but loads one
// value at a time; this converts 16 at a time.
NORMLAB_VECTORIZE void ScaleBytes(
    const uint8_t* from, int64_t count, float scale, float shift, float* __restrict to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = static_cast<float>(from[i]) * scale + shift;
  }
}

}  // namespace

std::vector<PixelTransform> MakePixelTransforms(v1::Scaling::Kind scaling,
                                                const MappedDataset& data) {
  std::vector<PixelTransform> transforms(static_cast<size_t>(data.shape().channels));
  for (size_t channel = 0; channel < transforms.size(); ++channel) {
    const double mean = data.channel_means()[channel];
    const double deviation = data.channel_deviations()[channel];
    double scale = 1;
    double shift = 0;
    switch (scaling) {
      case v1::Scaling::UNIT:
        scale = 1.0 / 255;
        break;
      case v1::Scaling::SYMMETRIC:
        scale = 2.0 / 255;
        shift = -1;
        break;
      case v1::Scaling::NONE:
        break;
      default: {  // STANDARDIZE; a resolved spec has no other value
        const double divisor = deviation > 0 ? deviation : 1;
        scale = 1.0 / (255 * divisor);
        shift = -mean / divisor;
      }
    }
    transforms[channel] = {static_cast<float>(scale), static_cast<float>(shift)};
  }
  return transforms;
}

BatchSource::BatchSource(const v1::JobSpec& resolved, const MappedDataset& data)
    : data_(data),
      length_(ComputeRunLength(resolved, data.shape())),
      batch_size_(resolved.batch_size()),
      shuffle_(resolved.data().shuffle()),
      random_(resolved.seed(), "shuffle"),
      transforms_(MakePixelTransforms(resolved.data().scaling(), data)),
      plane_(int64_t{data.shape().height} * data.shape().width),
      example_bytes_(data.example_bytes()),
      order_(static_cast<size_t>(length_.train_examples)) {
  std::iota(order_.begin(), order_.end(), 0U);
}

int64_t BatchSource::BatchSizeOf(int64_t step) const {
  const bool last = (step + 1) % length_.steps_per_epoch == 0;
  return last && length_.last_batch_size > 0 ? length_.last_batch_size : batch_size_;
}

void BatchSource::Shuffle(int64_t epoch) {
  // From the identity, not from the last epoch's order, so that no epoch depends on another.
  std::iota(order_.begin(), order_.end(), 0U);
  for (size_t i = order_.size(); i > 1; --i) {
    std::swap(order_[i - 1], order_[random_.Below(i, static_cast<uint64_t>(epoch), i)]);
  }
}

void BatchSource::LoadTraining(int64_t step, absl::Span<float> images, absl::Span<int32_t> labels) {
  const int64_t epoch = EpochOf(step);
  if (shuffle_ && epoch != epoch_) {
    Shuffle(epoch);
    epoch_ = epoch;
  }
  const int64_t first = step % length_.steps_per_epoch * batch_size_;
  const int64_t count = BatchSizeOf(step);
  const uint8_t* all_images = data_.train_images().data();
  const uint8_t* all_labels = data_.train_labels().data();
  for (int64_t n = 0; n < count; ++n) {
    const int64_t index = order_[first + n];
    LoadExample(all_images + index * example_bytes_, images.data() + n * example_bytes_);
    labels[n] = all_labels[index];
  }
  PrefetchExamples(first + count);
}

void BatchSource::PrefetchExamples(int64_t first) const {
  const int64_t last = std::min(first + kPrefetchedBytes / example_bytes_ + 1,
                                std::min(first + batch_size_, length_.train_examples));
  for (int64_t n = first; n < last; ++n) {
    const uint8_t* row = data_.train_images().data() + order_[n] * example_bytes_;
    for (int64_t offset = 0; offset < example_bytes_; offset += kCacheLine) {
      __builtin_prefetch(row + offset, /*read*/ 0, /*second-level cache*/ 2);
    }
  }
}

void BatchSource::LoadTest(int64_t first,
                           absl::Span<float> images,
                           absl::Span<int32_t> labels) const {
  const uint8_t* row = data_.test_images().data() + first * example_bytes_;
  const uint8_t* row_labels = data_.test_labels().data() + first;
  for (size_t n = 0; n < labels.size(); ++n) {
    LoadExample(row, images.data() + static_cast<int64_t>(n) * example_bytes_);
    labels[n] = row_labels[n];
    row += example_bytes_;
  }
}

void BatchSource::LoadExample(const uint8_t* pixels, float* to) const {
  for (const PixelTransform& transform : transforms_) {
    ScaleBytes(pixels, plane_, transform.scale, transform.shift, to);
    pixels += plane_;
    to += plane_;
  }
}

}  // namespace normlab::engine
