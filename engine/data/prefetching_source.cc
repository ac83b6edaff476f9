#include "engine/data/prefetching_source.h"

#include <pthread.h>

#include <algorithm>

namespace normlab::engine {

PrefetchingSource::PrefetchingSource(
    const v1::JobSpec& resolved, const MappedDataset& data, bool use_thread, int rank, int ranks)
    // The loading thread has no OpenMP team of its own.
    : source_(resolved, data, use_thread ? 1 : resolved.threads(), rank, ranks) {
  if (!use_thread) {
    return;
  }
  const DatasetShape& shape = data.shape();
  const auto batch = static_cast<size_t>(
      ShareOf(std::min<int64_t>(resolved.batch_size(), source_.length().train_examples), 0, ranks)
          .count);
  for (Buffer& buffer : buffers_) {
    buffer.inputs.resize(batch * static_cast<size_t>(shape.example_values()));
    buffer.labels.resize(shape.targets > 0 ? 0 : batch);
    buffer.targets.resize(batch * static_cast<size_t>(shape.targets));
  }
  thread_ = std::thread([this] { Prepare(); });
}

PrefetchingSource::~PrefetchingSource() {
  if (thread_.joinable()) {
    requested_.store(kStop, std::memory_order_release);
    requested_.notify_one();
    thread_.join();
  }
}

void PrefetchingSource::Prepare() {
  pthread_setname_np(pthread_self(), "normlab-data");
  int64_t last = kNothing;
  while (true) {
    requested_.wait(last, std::memory_order_acquire);
    const int64_t step = requested_.load(std::memory_order_acquire);
    if (step == kStop) {
      return;
    }
    if (step == last) {
      continue;
    }
    Buffer& buffer = buffers_[static_cast<size_t>(step % 2)];
    source_.LoadTraining(step, absl::MakeSpan(buffer.inputs), absl::MakeSpan(buffer.labels),
                         absl::MakeSpan(buffer.targets));
    last = step;
    prepared_.store(step, std::memory_order_release);
    prepared_.notify_one();
  }
}

void PrefetchingSource::LoadTraining(int64_t step,
                                     absl::Span<float> inputs,
                                     absl::Span<int32_t> labels,
                                     absl::Span<float> targets) {
  if (!thread_.joinable()) {
    source_.LoadTraining(step, inputs, labels, targets);
    return;
  }
  // From here to the next request the thread is idle, and source_ is ours.
  for (int64_t prepared = prepared_.load(std::memory_order_acquire);
       pending_ != kNothing && prepared != pending_;
       prepared = prepared_.load(std::memory_order_acquire)) {
    prepared_.wait(prepared, std::memory_order_acquire);
  }
  const bool is_prepared = pending_ == step;
  if (!is_prepared) {
    source_.LoadTraining(step, inputs, labels, targets);
  }
  const int64_t next = step + 1 < source_.length().total_steps ? step + 1 : kNothing;
  if (next != pending_) {
    pending_ = next;
    if (next != kNothing) {
      requested_.store(next, std::memory_order_release);
      requested_.notify_one();
    }
  }
  if (is_prepared) {
    CopyOut(buffers_[static_cast<size_t>(step % 2)], source_.ShareOf(step).count, inputs, labels,
            targets);
  }
}

void PrefetchingSource::CopyOut(const Buffer& from,
                                int64_t count,
                                absl::Span<float> inputs,
                                absl::Span<int32_t> labels,
                                absl::Span<float> targets) const {
  const DatasetShape& shape = source_.shape();
  std::copy_n(from.inputs.data(), count * shape.example_values(), inputs.data());
  if (shape.targets > 0) {
    if (!targets.empty()) {
      std::copy_n(from.targets.data(), count * shape.targets, targets.data());
    }
    return;
  }
  const auto from_labels = absl::MakeConstSpan(from.labels.data(), static_cast<size_t>(count));
  if (!labels.empty()) {
    std::copy(from_labels.begin(), from_labels.end(), labels.begin());
  }
  if (!targets.empty()) {
    FillOneHot(from_labels, shape.classes, targets);
  }
}

}  // namespace normlab::engine
