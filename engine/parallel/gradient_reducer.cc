#include "engine/parallel/gradient_reducer.h"

#include <algorithm>

namespace normlab::engine {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

GradientReducer::GradientReducer(Communicator& communicator,
                                 absl::Span<float> gradients,
                                 int64_t bucket_floats,
                                 bool overlap)
    : communicator_(communicator), overlap_(overlap) {
  for (auto end = static_cast<int64_t>(gradients.size()); end > 0;) {
    const int64_t begin = std::max<int64_t>(end - bucket_floats, 0);
    buckets_.push_back({begin, communicator.PlanSum(gradients.data() + begin, end - begin)});
    end = begin;
  }
}

void GradientReducer::Begin() {
  started_ = 0;
}

void GradientReducer::StartFrom(int64_t offset) {
  for (; started_ < buckets_.size() && buckets_[started_].begin >= offset; ++started_) {
    communicator_.StartSum(buckets_[started_].sum);
  }
}

void GradientReducer::OnGradientsFrom(int64_t offset) {
  if (!overlap_) {
    return;
  }
  const Clock::time_point start = Clock::now();
  StartFrom(offset);
  communicator_.Progress();
  overlapped_ += SecondsSince(start);
}

void GradientReducer::Finish() {
  const Clock::time_point start = Clock::now();
  StartFrom(0);
  communicator_.FinishSums();
  exposed_ += SecondsSince(start);
}

}  // namespace normlab::engine
