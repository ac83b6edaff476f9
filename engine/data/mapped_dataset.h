#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "engine/spec/run_length.h"

namespace normlab::engine {

// One part of a mapped data set, training or test. Values are bytes or floats, and examples have
// labels or targets: of each pair one is empty.
struct MappedPart {
  int64_t examples = 0;
  // [N, C, H, W], or [N, D] for dense examples.
  absl::Span<const uint8_t> bytes;
  absl::Span<const float> floats;
  // [N], from 0 to classes - 1.
  absl::Span<const int32_t> labels;
  // [N, T]
  absl::Span<const float> targets;
};

// A data set decoded once and mapped by every worker, so that a run starts in milliseconds and all
// runs on a machine share one copy. File format: docs/formats.md.
//
// Thread-safe: immutable. Owns the mapping; spans die with it. Movable.
class MappedDataset {
 public:
  // Maps a file written by WriteDataset. Checks the header, the length, every label (they index
  // memory later) and that the statistics are finite, not the values: VerifyContents does.
  // NOT_FOUND; DATA_LOSS: not such a file, of another version, or damaged; delete it, and it is made
  // again.
  static absl::StatusOr<MappedDataset> Open(const std::string& path);

  MappedDataset(MappedDataset&& other) noexcept { *this = std::move(other); }
  MappedDataset& operator=(MappedDataset&& other) noexcept;
  ~MappedDataset();

  // Compares the checksum of everything after the header (tens of milliseconds a hundred
  // megabytes). DATA_LOSS.
  absl::Status VerifyContents() const;

  const DatasetShape& shape() const { return shape_; }
  // Of shape, values and answers, as the header has it; lower-case hexadecimal. Equal sets have equal ones.
  const std::string& sha256() const { return sha256_; }
  const MappedPart& train() const { return train_; }
  const MappedPart& test() const { return test_; }
  // Of each channel (of a dense example: of each feature), over all training values: bytes scaled to
  // [0, 1], floats as stored. The deviation is the biased one, and exactly 0 where all are equal.
  absl::Span<const double> channel_means() const { return means_; }
  absl::Span<const double> channel_deviations() const { return deviations_; }

 private:
  MappedDataset() = default;

  const uint8_t* mapping_ = nullptr;
  size_t bytes_ = 0;
  DatasetShape shape_;
  std::string sha256_;
  MappedPart train_;
  MappedPart test_;
  absl::Span<const double> means_;
  absl::Span<const double> deviations_;
};

}  // namespace normlab::engine
