#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace normlab::engine {

// How the processes (ranks) that share the batches of one run talk to each other. A rank sees the
// others only through this interface; where there is one process, there is no communicator at all
// (null), and nothing costs anything.
//
// Every call is collective: all ranks make the same calls, with the same sizes, in the same order.
// A call returns when the caller's part is done. Numbers are always put together in the order of
// the ranks, so that every rank gets the same bits, and a repeated run the same as the first.
// Nothing is allocated once all sums are planned. A rank that dies ends the others: nobody waits for
// ever (in tests, whose ranks are threads of one process, nobody dies).
//
// Thread-compatible: one thread of each rank uses it.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // `all` [size * bytes] becomes everybody's `mine` [bytes], in the order of ranks. They must not
  // overlap.
  virtual void AllGather(const void* mine, void* all, size_t bytes) = 0;
  // Everybody gets rank 0's `data` [bytes].
  virtual void Broadcast(void* data, size_t bytes) = 0;

  // Plans the sum over the ranks of values [count], in place: values = ((v_0 + v_1) + v_2) + ... in
  // float. Returns its number. `values` must stay where it is; not owned.
  virtual int PlanSum(float* values, int64_t count) = 0;
  // Begins a planned sum; until FinishSums the values belong to it.
  virtual void StartSum(int sum) = 0;
  // Lets sums that were begun go on; cheap, to be called between pieces of other work.
  virtual void Progress() = 0;
  // Waits until all sums that were begun are done, here.
  virtual void FinishSums() = 0;

  // The communicator among the ranks [g * group_size, (g + 1) * group_size) of which the caller is
  // one. `group_size` divides size(). Collective over all ranks; must not outlive this one.
  virtual std::unique_ptr<Communicator> Split(int group_size) = 0;
};

}  // namespace normlab::engine
