#include "engine/data/batch_source.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace normlab::engine {
namespace {

constexpr int64_t kCacheLine = 64;
// Examples are read in random order, so their memory is far away: the next batch's is asked for
// while this one trains, as far as a part of the second-level cache holds it.
constexpr int64_t kPrefetchedBytes = int64_t{256} << 10;

// Values of a batch, from which on sharing it out is cheaper than loading it alone (some 60 us; a
// parallel region costs about 5, and 30 to 60 where threads sleep in between).
constexpr int64_t kSharedValues = int64_t{1} << 18;

const uint8_t* StoredValues(const MappedPart& part) {
  return part.bytes.empty() ? reinterpret_cast<const uint8_t*>(part.floats.data())
                            : part.bytes.data();
}

}  // namespace

void FillOneHot(absl::Span<const int32_t> labels, int32_t classes, absl::Span<float> targets) {
  std::fill_n(targets.begin(), static_cast<int64_t>(labels.size()) * classes, 0.0F);
  for (size_t n = 0; n < labels.size(); ++n) {
    targets[n * static_cast<size_t>(classes) + static_cast<size_t>(labels[n])] = 1;
  }
}

BatchSource::BatchSource(
    const v1::JobSpec& resolved, const MappedDataset& data, int threads, int rank, int ranks)
    : data_(data),
      length_(ComputeRunLength(resolved, data.shape())),
      batch_size_(resolved.batch_size()),
      threads_(threads),
      rank_(rank),
      ranks_(ranks),
      shuffle_(resolved.data().shuffle()),
      random_(resolved.seed(), "shuffle"),
      augmentation_(resolved, data.shape()),
      loader_(resolved.data().scaling(), data),
      example_values_(data.shape().example_values()),
      example_bytes_(example_values_ *
                     static_cast<int64_t>(data.shape().floats ? sizeof(float) : 1)),
      stored_(StoredValues(data.train())),
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

template <typename Load>
void BatchSource::ForEach(int64_t count, const Load& load) const {
  if (threads_ == 1 || count * example_values_ < kSharedValues) {
    for (int64_t n = 0; n < count; ++n) {
      load(n);
    }
    return;
  }
#pragma omp parallel for schedule(static) num_threads(threads_)
  for (int64_t n = 0; n < count; ++n) {
    load(n);
  }
}

void BatchSource::LoadTraining(int64_t step,
                               absl::Span<float> inputs,
                               absl::Span<int32_t> labels,
                               absl::Span<float> targets) {
  const int64_t epoch = EpochOf(step);
  if (shuffle_ && epoch != epoch_) {
    Shuffle(epoch);
    epoch_ = epoch;
  }
  const Share share = ShareOf(step);
  const int64_t first = step % length_.steps_per_epoch * batch_size_ + share.first;
  const int64_t count = share.count;
  const MappedPart& part = data_.train();
  ForEach(count, [&](int64_t n) {
    const int64_t index = order_[static_cast<size_t>(first + n)];
    float* to = inputs.data() + n * example_values_;
    if (augmentation_.active()) {
      loader_.LoadChanged(part, index, augmentation_.Draw(epoch, index), to);
    } else {
      loader_.Load(part, index, to);
    }
    LoadAnswer(part, index, n, labels, targets);
  });
  PrefetchExamples(first + batch_size_);
}

void BatchSource::PrefetchExamples(int64_t first) const {
  const int64_t last = std::min(
      first + kPrefetchedBytes / example_bytes_ + 1,
      std::min(first + engine::ShareOf(batch_size_, rank_, ranks_).count, length_.train_examples));
  for (int64_t n = first; n < last; ++n) {
    const uint8_t* row = stored_ + order_[n] * example_bytes_;
    const int64_t bytes = std::min(example_bytes_, kPrefetchedBytes);
    for (int64_t offset = 0; offset < bytes; offset += kCacheLine) {
      __builtin_prefetch(row + offset, /*read*/ 0, /*second-level cache*/ 2);
    }
  }
}

void BatchSource::LoadAnswer(const MappedPart& part,
                             int64_t index,
                             int64_t n,
                             absl::Span<int32_t> labels,
                             absl::Span<float> targets) const {
  const DatasetShape& shape = data_.shape();
  if (shape.targets > 0) {
    if (!targets.empty()) {
      std::copy_n(part.targets.data() + index * shape.targets, shape.targets,
                  targets.data() + n * shape.targets);
    }
    return;
  }
  const int32_t label = part.labels[static_cast<size_t>(index)];
  if (!labels.empty()) {
    labels[static_cast<size_t>(n)] = label;
  }
  if (!targets.empty()) {
    FillOneHot({&label, 1}, shape.classes,
               targets.subspan(static_cast<size_t>(n * shape.classes),
                               static_cast<size_t>(shape.classes)));
  }
}

void BatchSource::LoadTest(int64_t first,
                           absl::Span<float> inputs,
                           absl::Span<int32_t> labels,
                           absl::Span<float> targets) const {
  const MappedPart& part = data_.test();
  const int64_t count = static_cast<int64_t>(inputs.size()) / example_values_;
  ForEach(count, [&](int64_t n) {
    loader_.Load(part, first + n, inputs.data() + n * example_values_);
    LoadAnswer(part, first + n, n, labels, targets);
  });
}

}  // namespace normlab::engine
