#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "common/random.h"
#include "engine/data/mapped_dataset.h"
#include "engine/spec/run_length.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// How a byte of a channel becomes an input: byte * scale + shift, rounded after each of the two.
struct PixelTransform {
  float scale = 1;
  float shift = 0;
};

// One per channel. STANDARDIZE of a channel that never changes only subtracts its mean.
std::vector<PixelTransform> MakePixelTransforms(v1::Scaling::Kind scaling,
                                                const MappedDataset& data);

// Turns training and test examples into batches of inputs and labels.
//
// Training: batch t of a run is examples [i*B, (i+1)*B) of epoch e's order, e = t / steps per
// epoch, i = t % steps per epoch. The order is a Fisher-Yates shuffle drawn from the stream
// "shuffle" with the epoch as step, a pure function of (seed, epoch): any step can be loaded at any
// time, which is all that a resume needs. Test examples come in their own order.
//
// Loading allocates nothing; a change of epoch reshuffles in place (about 1 ms for 60,000
// examples). Not thread-safe. Does not own the data set, which must outlive it.
class BatchSource {
 public:
  // `resolved`: valid for this data set (CheckData).
  BatchSource(const v1::JobSpec& resolved, const MappedDataset& data);

  const RunLength& length() const { return length_; }

  // Epoch of training step `step`, and the number of examples in its batch.
  int64_t EpochOf(int64_t step) const { return step / length_.steps_per_epoch; }
  int64_t BatchSizeOf(int64_t step) const;

  // Fills images [BatchSizeOf(step), C, H, W] and labels [BatchSizeOf(step)].
  void LoadTraining(int64_t step, absl::Span<float> images, absl::Span<int32_t> labels);

  // Fills test examples [first, first + labels.size()).
  void LoadTest(int64_t first, absl::Span<float> images, absl::Span<int32_t> labels) const;

 private:
  void Shuffle(int64_t epoch);
  // Asks for the memory of the examples from position `first` of the order on; the next batch.
  void PrefetchExamples(int64_t first) const;
  void LoadExample(const uint8_t* pixels, float* to) const;

  const MappedDataset& data_;
  const RunLength length_;
  const int64_t batch_size_;
  const bool shuffle_;
  const common::RandomStream random_;
  const std::vector<PixelTransform> transforms_;
  const int64_t plane_;  // pixels of a channel
  const int64_t example_bytes_;
  std::vector<uint32_t> order_;  // of epoch_
  int64_t epoch_ = -1;
};

}  // namespace normlab::engine
