#pragma once

#include <atomic>
#include <bit>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace normlab::engine {

// What is known of a step besides its points.
struct StepInfo {
  int64_t step = 0;
  int64_t elapsed_us = 0;  // of training in this attempt, when the step ended
  float step_seconds = 0;  // 0: no update belongs to this record
  uint32_t examples = 0;   // trained on in this step
};

// One step as it leaves the ring. Meant to be reused: its vectors keep their storage.
struct StepEntry {
  StepInfo info;
  std::vector<uint32_t> series;
  std::vector<double> values;  // [series]
};

// A bounded queue of steps from the training thread to the one that reports, in memory allocated
// once. Pushing takes no lock and allocates nothing while there is room; a full ring makes the
// producer wait, so nothing is ever dropped.
//
// One producer and one consumer thread; Close may be called from any.
class MetricRing {
 public:
  // Rounded up to a power of two. A step takes 4 words and 1.5 for each of its points.
  explicit MetricRing(size_t capacity_words);
  MetricRing(const MetricRing&) = delete;
  MetricRing& operator=(const MetricRing&) = delete;

  // Producer: appends a step with `count` points; point_at(i) returns a pair-like {series, value}.
  // Waits while there is no room. False: the ring is closed and the step was not taken, or it could
  // never fit.
  template <typename PointAt>
  bool Push(const StepInfo& info, size_t count, const PointAt& point_at) {
    const size_t words = WordsFor(count);
    if (closed_.load(std::memory_order_relaxed) || !Reserve(words)) {
      return false;
    }
    uint64_t at = head_.load(std::memory_order_relaxed);
    words_[at++ & mask_] = static_cast<uint64_t>(info.step);
    words_[at++ & mask_] = static_cast<uint64_t>(info.elapsed_us);
    words_[at++ & mask_] =
        uint64_t{std::bit_cast<uint32_t>(info.step_seconds)} << 32 | info.examples;
    words_[at++ & mask_] = count;
    for (size_t i = 0; i < count; i += 2) {
      const auto [first, first_value] = point_at(i);
      uint64_t ids = static_cast<uint32_t>(first);
      if (i + 1 < count) {
        const auto [second, second_value] = point_at(i + 1);
        ids |= uint64_t{static_cast<uint32_t>(second)} << 32;
        words_[(at + 2) & mask_] = std::bit_cast<uint64_t>(static_cast<double>(second_value));
      }
      words_[at & mask_] = ids;
      words_[(at + 1) & mask_] = std::bit_cast<uint64_t>(static_cast<double>(first_value));
      at += i + 1 < count ? 3 : 2;
    }
    head_.store(at, std::memory_order_release);
    pushed_.store(pushed_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    return true;
  }

  // Consumer: moves the oldest step into `entry`. False: there is none.
  bool Pop(StepEntry& entry);

  // Steps pushed so far. Exact on the producer's thread; elsewhere a lower bound, all of which can
  // be popped.
  int64_t pushed() const { return pushed_.load(std::memory_order_acquire); }

  bool half_full() const {
    return head_.load(std::memory_order_relaxed) - tail_.load(std::memory_order_relaxed) >
           words_.size() / 2;
  }

  // Lets a waiting producer go, and refuses everything from now on. What was pushed can still be
  // popped.
  void Close();

 private:
  static size_t WordsFor(size_t count) { return 4 + count + (count + 1) / 2; }
  bool Reserve(size_t words) {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    return head + words - tail_.load(std::memory_order_acquire) <= words_.size() ||
           WaitForRoom(words);
  }
  bool WaitForRoom(size_t words);

  std::vector<uint64_t> words_;
  const uint64_t mask_;
  // Positions only grow; each on a cache line of its own, as each is written by one side.
  alignas(64) std::atomic<uint64_t> head_{0};
  std::atomic<int64_t> pushed_{0};
  alignas(64) std::atomic<uint64_t> tail_{0};
  alignas(64) std::atomic<bool> producer_waits_{false};
  std::atomic<bool> closed_{false};
  // Guards nothing: where a producer without room sleeps. Of the standard library, which
  // ThreadSanitizer understands.
  std::mutex mu_;
  std::condition_variable room_;
};

}  // namespace normlab::engine
