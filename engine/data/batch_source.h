#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "common/random.h"
#include "engine/data/augmentation.h"
#include "engine/data/example_loader.h"
#include "engine/data/mapped_dataset.h"
#include "engine/spec/ranks.h"
#include "engine/spec/run_length.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// Classes as targets: `targets` [N, classes] becomes 0 but for a 1 at every label of `labels` [N].
void FillOneHot(absl::Span<const int32_t> labels, int32_t classes, absl::Span<float> targets);

// Turns training and test examples into batches of inputs and labels or targets.
//
// Training: batch t of a run is examples [i*B, (i+1)*B) of epoch e's order, e = t / steps per
// epoch, i = t % steps per epoch. The order is a Fisher-Yates shuffle drawn from the stream
// "shuffle" with the epoch as step, a pure function of (seed, epoch), and so are the changes of
// images (Augmentation): any step can be loaded at any time, which is all that a resume needs. Test
// examples come in their own order, unchanged.
//
// Loading allocates nothing; large batches are shared out among OpenMP threads (every example is
// loaded by one, so their number changes nothing); a change of epoch reshuffles in place (about 1 ms
// for 60,000 examples). LoadTraining is for one thread at a time; LoadTest only reads, and may run beside it.
// Does not own the data set, which must outlive it.
class BatchSource {
 public:
  // `resolved`: valid for this data set (CheckData). `threads`: of the OpenMP team that calls. `rank`
  // of `ranks`: whose share of every training batch is loaded; the batches are the same whatever the
  // ranks.
  BatchSource(const v1::JobSpec& resolved,
              const MappedDataset& data,
              int threads = 1,
              int rank = 0,
              int ranks = 1);

  const RunLength& length() const { return length_; }
  const DatasetShape& shape() const { return data_.shape(); }

  // Epoch of training step `step`, and the number of examples in its batch (of all ranks).
  int64_t EpochOf(int64_t step) const { return step / length_.steps_per_epoch; }
  int64_t BatchSizeOf(int64_t step) const;
  // Which of these are loaded here.
  Share ShareOf(int64_t step) const { return engine::ShareOf(BatchSizeOf(step), rank_, ranks_); }

  // Fills inputs [N, C, H, W] (dense: [.., D]), N = ShareOf(step).count, and of labels [N]
  // and targets [N, T] those that are not empty. Of classes, targets are vectors of
  // 0 with one 1, T the number of classes; real-valued targets have no labels.
  void LoadTraining(int64_t step,
                    absl::Span<float> inputs,
                    absl::Span<int32_t> labels,
                    absl::Span<float> targets = {});

  // Fills test examples from `first` on, as many as inputs [n, C, H, W] has room for; labels [n] and
  // targets [n, T] as above.
  void LoadTest(int64_t first,
                absl::Span<float> inputs,
                absl::Span<int32_t> labels,
                absl::Span<float> targets = {}) const;

 private:
  void Shuffle(int64_t epoch);
  // Asks for the memory of the examples from position `first` of the order on; the next batch.
  void PrefetchExamples(int64_t first) const;
  // Calls load(n) for every example n of a batch of `count`.
  template <typename Load>
  void ForEach(int64_t count, const Load& load) const;
  // Label or targets of example `index` of `part`, to position `n` of what is not empty.
  void LoadAnswer(const MappedPart& part,
                  int64_t index,
                  int64_t n,
                  absl::Span<int32_t> labels,
                  absl::Span<float> targets) const;

  const MappedDataset& data_;
  const RunLength length_;
  const int64_t batch_size_;
  const int threads_;
  const int rank_;
  const int ranks_;
  const bool shuffle_;
  const common::RandomStream random_;
  const Augmentation augmentation_;
  const ExampleLoader loader_;
  const int64_t example_values_;
  const int64_t example_bytes_;  // as stored
  const uint8_t* const stored_;  // the training values, whatever they are
  std::vector<uint32_t> order_;  // of epoch_
  int64_t epoch_ = -1;
};

}  // namespace normlab::engine
