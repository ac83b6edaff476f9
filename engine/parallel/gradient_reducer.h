#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "engine/parallel/communicator.h"

namespace normlab::engine {

// Told by a network, during its backward pass, which gradients are final.
class GradientListener {
 public:
  virtual ~GradientListener() = default;
  // Nothing in the arena of gradients at `offset` or after changes any more in this pass. Called
  // after every layer's backward pass; offsets never grow within a pass.
  virtual void OnGradientsFrom(int64_t offset) = 0;
};

// Adds up the gradients of all ranks while the backward pass still computes others: the arena is
// cut into buckets from its end, and a bucket's sum begins when the last layer of it is done.
//
// The sum does not depend on the cuts. Not thread-safe: for the thread that runs the backward pass.
// Owns nothing; communicator and gradients must outlive it. Nothing is allocated after construction.
class GradientReducer final : public GradientListener {
 public:
  // Small enough that something is under way early, large enough that a message is worth its
  // latency. [floats]
  static constexpr int64_t kBucketFloats = int64_t{1} << 19;

  // Collective. `overlap`: false begins all sums after the backward pass; for measuring.
  GradientReducer(Communicator& communicator,
                  absl::Span<float> gradients,
                  int64_t bucket_floats = kBucketFloats,
                  bool overlap = true);

  // Before a backward pass.
  void Begin();
  void OnGradientsFrom(int64_t offset) override;
  // After it: begins what is left and waits; then the gradients are the sums.
  void Finish();

  // What sums took of this thread's time outside of Finish, and in Finish, since construction.
  // [seconds]
  double overlapped_seconds() const { return overlapped_; }
  double exposed_seconds() const { return exposed_; }

 private:
  struct Bucket {
    int64_t begin = 0;
    int sum = 0;
  };

  void StartFrom(int64_t offset);

  Communicator& communicator_;
  const bool overlap_;
  std::vector<Bucket> buckets_;  // from the arena's end on
  size_t started_ = 0;
  double overlapped_ = 0;
  double exposed_ = 0;
};

}  // namespace normlab::engine
