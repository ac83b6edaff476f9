#include "engine/train/rank_team.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

#include "engine/train/failure.h"

namespace normlab::engine {
namespace {

// An error, as ranks send it.
struct Word {
  int32_t code = 0;
  int32_t reason = 0;
  std::array<char, 2000> text = {};
};

// A checksum for accidents, at the speed of memory: every word is mixed in by a product with an odd
// number, so that a difference of any bits, or of the order, changes it.
uint64_t Checksum(const std::vector<absl::Span<const float>>& parts) {
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15;
  uint64_t sum = 0;
  for (const absl::Span<const float> part : parts) {
    for (const float value : part) {
      uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof(bits));
      sum = (sum ^ bits) * kOdd;
      sum ^= sum >> 32;
    }
  }
  return sum;
}

}  // namespace

RankTeam::RankTeam(Communicator* communicator, int64_t state_floats)
    : communicator_(communicator),
      all_(communicator == nullptr ? 0 : static_cast<size_t>(size() * state_floats)),
      results_(static_cast<size_t>(size())) {}

BatchResult RankTeam::Sum(const BatchResult& share) {
  if (communicator_ == nullptr) {
    return share;
  }
  communicator_->AllGather(&share, results_.data(), sizeof(share));
  BatchResult sum;
  for (const BatchResult& result : results_) {
    sum.loss += result.loss;
    sum.correct += result.correct;
  }
  return sum;
}

void RankTeam::Average(absl::Span<float> values) {
  if (communicator_ == nullptr || values.empty()) {
    return;
  }
  communicator_->AllGather(values.data(), all_.data(), values.size() * sizeof(float));
  const double ranks = size();
  for (size_t i = 0; i < values.size(); ++i) {
    double sum = 0;
    for (size_t from = i; from < values.size() * results_.size(); from += values.size()) {
      sum += static_cast<double>(all_[from]);
    }
    values[i] = static_cast<float>(sum / ranks);
  }
}

absl::Status RankTeam::AgreeOn(const absl::Status& mine) {
  if (communicator_ == nullptr) {
    return mine;
  }
  Word word;
  word.code = mine.raw_code();
  word.reason = ToFailure(mine).reason();
  std::copy_n(mine.message().begin(), std::min(mine.message().size(), word.text.size() - 1),
              word.text.begin());
  std::vector<Word> all(results_.size());
  communicator_->AllGather(&word, all.data(), sizeof(word));
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].code != 0) {
      return WithReason(absl::Status(static_cast<absl::StatusCode>(all[rank].code),
                                     absl::StrCat("rank ", rank, ": ", all[rank].text.data())),
                        static_cast<v1::FailureReason::Kind>(all[rank].reason));
    }
  }
  return absl::OkStatus();
}

int RankTeam::FindDifference(const std::vector<absl::Span<const float>>& parts) {
  if (communicator_ == nullptr) {
    return -1;
  }
  const uint64_t mine = Checksum(parts);
  std::vector<uint64_t> all(results_.size());
  communicator_->AllGather(&mine, all.data(), sizeof(mine));
  const auto differs =
      std::find_if(all.begin(), all.end(), [&](uint64_t s) { return s != all[0]; });
  return differs == all.end() ? -1 : static_cast<int>(differs - all.begin());
}

}  // namespace normlab::engine
