#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "engine/parallel/communicator.h"
#include "engine/train/network.h"

namespace normlab::engine {

// What the ranks of one run tell each other besides gradients: rank 0 leads, it alone knows of stops,
// clocks and disks; all others do what it does. With one process every method answers at once.
//
// Methods are collective, like the communicator's. Not thread-safe: for the trainer's thread. Does
// not own the communicator. Nothing is allocated after construction but by AgreeOn.
class RankTeam {
 public:
  // `communicator`: null for one process. `state_floats`: the most that Average is called with.
  RankTeam(Communicator* communicator, int64_t state_floats);

  int rank() const { return communicator_ == nullptr ? 0 : communicator_->rank(); }
  int size() const { return communicator_ == nullptr ? 1 : communicator_->size(); }
  bool leads() const { return rank() == 0; }
  bool alone() const { return communicator_ == nullptr; }

  // Rank 0's word.
  template <typename Word>
  Word FromLead(Word word) {
    static_assert(std::is_trivially_copyable_v<Word>);
    if (communicator_ != nullptr) {
      communicator_->Broadcast(&word, sizeof(word));
    }
    return word;
  }

  // The batch's result from those of its shares, added up in the order of ranks.
  BatchResult Sum(const BatchResult& share);
  // Replaces `values` by their means over the ranks, in double in the order of ranks: equal values
  // stay exactly as they are.
  void Average(absl::Span<float> values);
  // OK when every rank's `mine` is; else the first rank's error that is not, on all ranks, naming the
  // rank, with its failure reason.
  absl::Status AgreeOn(const absl::Status& mine);
  // Whether all ranks have the same numbers, bit for bit, by a checksum; -1 when they have, else the
  // first rank that differs from rank 0.
  int FindDifference(const std::vector<absl::Span<const float>>& parts);

 private:
  Communicator* const communicator_;
  std::vector<float> all_;  // [size * state_floats]
  std::vector<BatchResult> results_;
};

}  // namespace normlab::engine
