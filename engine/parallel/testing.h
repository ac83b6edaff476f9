#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "engine/parallel/thread_ranks.h"

namespace normlab::engine::testing {

// Runs work(communicator) on `size` threads, one a rank, and waits for all of them.
template <typename Work>
void RunRanks(int size, const Work& work) {
  std::vector<std::unique_ptr<Communicator>> ranks = MakeThreadRanks(size);
  std::vector<std::thread> threads;
  threads.reserve(ranks.size());
  for (std::unique_ptr<Communicator>& rank : ranks) {
    threads.emplace_back([&work, &rank] { work(*rank); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

}  // namespace normlab::engine::testing
