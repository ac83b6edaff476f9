#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/types/span.h"

#include "engine/data/batch_source.h"

namespace normlab::engine {

// Gives the same batches as a BatchSource, byte for byte; where that pays (PlanLoading), a thread of
// its own prepares the batch of step t + 1 while step t trains; elsewhere the job's threads load
// step t together.
//
// Two buffers take turns. The threads meet twice a step, at an atomic variable on which they sleep
// when they have to wait (a futex); nothing allocates or locks. A step other than the one after the
// last is loaded at once, so that a run can begin anywhere.
//
// LoadTraining is for one thread at a time; LoadTest of source() may run beside it. The destructor
// waits for the batch in preparation. Does not own the data set, which must outlive it.
class PrefetchingSource {
 public:
  // `resolved`, `rank`, `ranks`: as BatchSource. `use_thread`: PlanLoading(...).prefetch_thread.
  PrefetchingSource(const v1::JobSpec& resolved,
                    const MappedDataset& data,
                    bool use_thread,
                    int rank = 0,
                    int ranks = 1);
  ~PrefetchingSource();
  PrefetchingSource(const PrefetchingSource&) = delete;
  PrefetchingSource& operator=(const PrefetchingSource&) = delete;

  const BatchSource& source() const { return source_; }
  const RunLength& length() const { return source_.length(); }
  int64_t BatchSizeOf(int64_t step) const { return source_.BatchSizeOf(step); }

  // As BatchSource::LoadTraining.
  void LoadTraining(int64_t step,
                    absl::Span<float> inputs,
                    absl::Span<int32_t> labels,
                    absl::Span<float> targets = {});

 private:
  static constexpr int64_t kNothing = -1;
  static constexpr int64_t kStop = -2;

  struct Buffer {
    std::vector<float> inputs;
    std::vector<int32_t> labels;  // empty: real-valued targets
    std::vector<float> targets;   // empty: classes
  };

  void Prepare();  // the thread
  void CopyOut(const Buffer& from,
               int64_t count,
               absl::Span<float> inputs,
               absl::Span<int32_t> labels,
               absl::Span<float> targets) const;

  BatchSource source_;             // whose turn it is follows from the two atomics
  std::array<Buffer, 2> buffers_;  // step t in buffer t % 2
  // Step that the thread shall prepare, and the one it prepared last.
  std::atomic<int64_t> requested_{kNothing};
  std::atomic<int64_t> prepared_{kNothing};
  int64_t pending_ = kNothing;  // of the caller: requested and not taken yet
  std::thread thread_;          // the last member: it uses the others
};

}  // namespace normlab::engine
