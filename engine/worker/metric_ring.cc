#include "engine/worker/metric_ring.h"

#include <algorithm>

namespace normlab::engine {

MetricRing::MetricRing(size_t capacity_words)
    : words_(std::bit_ceil(std::max<size_t>(capacity_words, 16))), mask_(words_.size() - 1) {}

bool MetricRing::Pop(StepEntry& entry) {
  uint64_t at = tail_.load(std::memory_order_relaxed);
  if (at == head_.load(std::memory_order_acquire)) {
    return false;
  }
  entry.info.step = static_cast<int64_t>(words_[at++ & mask_]);
  entry.info.elapsed_us = static_cast<int64_t>(words_[at++ & mask_]);
  const uint64_t packed = words_[at++ & mask_];
  entry.info.step_seconds = std::bit_cast<float>(static_cast<uint32_t>(packed >> 32));
  entry.info.examples = static_cast<uint32_t>(packed);
  const size_t count = words_[at++ & mask_];
  entry.series.resize(count);
  entry.values.resize(count);
  for (size_t i = 0; i < count; i += 2) {
    const uint64_t ids = words_[at++ & mask_];
    entry.series[i] = static_cast<uint32_t>(ids);
    entry.values[i] = std::bit_cast<double>(words_[at++ & mask_]);
    if (i + 1 < count) {
      entry.series[i + 1] = static_cast<uint32_t>(ids >> 32);
      entry.values[i + 1] = std::bit_cast<double>(words_[at++ & mask_]);
    }
  }
  // Sequentially consistent with WaitForRoom: either the producer sees this position, or we see
  // that it waits.
  tail_.store(at, std::memory_order_seq_cst);
  if (producer_waits_.load(std::memory_order_seq_cst)) {
    // Locked once, so that the producer is either before its check of the position or asleep.
    { const std::lock_guard<std::mutex> lock(mu_); }
    room_.notify_one();
  }
  return true;
}

void MetricRing::Close() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    closed_.store(true, std::memory_order_seq_cst);
  }
  room_.notify_one();
}

bool MetricRing::WaitForRoom(size_t words) {
  if (words > words_.size()) {
    return false;
  }
  const uint64_t head = head_.load(std::memory_order_relaxed);
  const auto ready = [&] {
    return closed_.load(std::memory_order_seq_cst) ||
           head + words - tail_.load(std::memory_order_seq_cst) <= words_.size();
  };
  producer_waits_.store(true, std::memory_order_seq_cst);
  {
    std::unique_lock<std::mutex> lock(mu_);
    room_.wait(lock, ready);
  }
  producer_waits_.store(false, std::memory_order_seq_cst);
  return !closed_.load(std::memory_order_seq_cst);
}

}  // namespace normlab::engine
