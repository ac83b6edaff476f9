#include "engine/parallel/thread_ranks.h"

#include <algorithm>
#include <barrier>
#include <cstring>
#include <utility>

#include "engine/parallel/segments.h"

namespace normlab::engine {
namespace {

struct Meeting {
  explicit Meeting(int size) : barrier(size), pointers(static_cast<size_t>(size)) {}

  std::barrier<> barrier;
  // What each rank has to show, by rank; written before a barrier, read after it.
  std::vector<const void*> pointers;
  std::vector<float> sum;  // room for the largest planned sum; rank 0 makes it
};

class ThreadRank final : public Communicator {
 public:
  ThreadRank(std::shared_ptr<Meeting> meeting, int rank, int size)
      : meeting_(std::move(meeting)), rank_(rank), size_(size) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void AllGather(const void* mine, void* all, size_t bytes) override {
    Show(mine);
    for (int from = 0; from < size_; ++from) {
      std::memcpy(static_cast<std::byte*>(all) + static_cast<size_t>(from) * bytes, Shown(from),
                  bytes);
    }
    meeting_->barrier.arrive_and_wait();
  }

  void Broadcast(void* data, size_t bytes) override {
    Show(data);
    if (rank_ != 0) {
      std::memcpy(data, Shown(0), bytes);
    }
    meeting_->barrier.arrive_and_wait();
  }

  int PlanSum(float* values, int64_t count) override {
    sums_.push_back({values, count});
    if (rank_ == 0) {
      meeting_->sum.resize(std::max(meeting_->sum.size(), static_cast<size_t>(count)));
    }
    meeting_->barrier.arrive_and_wait();
    pending_.reserve(sums_.size());
    return static_cast<int>(sums_.size()) - 1;
  }

  void StartSum(int sum) override { pending_.push_back(sum); }
  void Progress() override {}

  void FinishSums() override {
    for (const int sum : pending_) {
      Add(sums_[static_cast<size_t>(sum)]);
    }
    pending_.clear();
  }

  std::unique_ptr<Communicator> Split(int group_size) override {
    const int first = rank_ / group_size * group_size;
    std::shared_ptr<Meeting> made;
    if (rank_ == first) {
      made = std::make_shared<Meeting>(group_size);
    }
    Show(&made);
    std::shared_ptr<Meeting> group = *static_cast<const std::shared_ptr<Meeting>*>(Shown(first));
    meeting_->barrier.arrive_and_wait();
    return std::make_unique<ThreadRank>(std::move(group), rank_ - first, group_size);
  }

 private:
  struct Sum {
    float* values;
    int64_t count;
  };

  void Show(const void* what) {
    meeting_->pointers[static_cast<size_t>(rank_)] = what;
    meeting_->barrier.arrive_and_wait();
  }
  const void* Shown(int rank) const { return meeting_->pointers[static_cast<size_t>(rank)]; }

  // Every rank adds up its own segment.
  void Add(const Sum& sum) {
    Show(sum.values);
    const Segment mine = SegmentOf(sum.count, rank_, size_);
    for (int64_t i = mine.first; i < mine.first + mine.count; ++i) {
      float total = static_cast<const float*>(Shown(0))[i];
      for (int from = 1; from < size_; ++from) {
        total += static_cast<const float*>(Shown(from))[i];
      }
      meeting_->sum[static_cast<size_t>(i)] = total;
    }
    meeting_->barrier.arrive_and_wait();
    std::copy_n(meeting_->sum.data(), sum.count, sum.values);
    meeting_->barrier.arrive_and_wait();
  }

  const std::shared_ptr<Meeting> meeting_;
  const int rank_;
  const int size_;
  std::vector<Sum> sums_;
  std::vector<int> pending_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeThreadRanks(int size) {
  auto meeting = std::make_shared<Meeting>(size);
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int rank = 0; rank < size; ++rank) {
    ranks.push_back(std::make_unique<ThreadRank>(meeting, rank, size));
  }
  return ranks;
}

}  // namespace normlab::engine
