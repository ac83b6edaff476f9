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

// A data set decoded once and mapped by every worker, so that a run starts in milliseconds and all
// runs on a machine share one copy.
//
// File format, version 1, in the byte order of the machine that wrote it: a header of 4096 bytes
// (magic "NLDATA\1\0", byte order mark, sizes, mean and standard deviation of each channel over the
// training pixels scaled to [0, 1], SHA-256 of the rest, SHA-256 of the header itself), then the
// training images [N, C, H, W] as bytes, training labels [N], test images, test labels.
//
// Thread-safe: immutable. Owns the mapping; spans die with it. Movable.
class MappedDataset {
 public:
  // Maps a file written by WriteDataset. Checks the header, the length and every label (they index
  // memory later), not the images: VerifyContents does. NOT_FOUND; DATA_LOSS: not such a file, or
  // damaged; delete it, and it is made again.
  static absl::StatusOr<MappedDataset> Open(const std::string& path);

  MappedDataset(MappedDataset&& other) noexcept
      : mapping_(std::exchange(other.mapping_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)),
        shape_(other.shape_),
        means_(std::move(other.means_)),
        deviations_(std::move(other.deviations_)) {}
  MappedDataset& operator=(MappedDataset&& other) noexcept;
  ~MappedDataset();

  // Compares the checksum of everything after the header (tens of milliseconds). DATA_LOSS.
  absl::Status VerifyContents() const;

  const DatasetShape& shape() const { return shape_; }
  int64_t example_bytes() const { return int64_t{shape_.channels} * shape_.height * shape_.width; }
  // [N, C, H, W]
  absl::Span<const uint8_t> train_images() const;
  absl::Span<const uint8_t> train_labels() const;
  absl::Span<const uint8_t> test_images() const;
  absl::Span<const uint8_t> test_labels() const;
  // Of each channel, over all training pixels scaled to [0, 1]; the deviation is the biased one.
  absl::Span<const double> channel_means() const { return means_; }
  absl::Span<const double> channel_deviations() const { return deviations_; }

 private:
  MappedDataset() = default;
  absl::Span<const uint8_t> Part(int64_t offset, int64_t bytes) const;

  const uint8_t* mapping_ = nullptr;
  size_t bytes_ = 0;
  DatasetShape shape_;
  std::vector<double> means_;
  std::vector<double> deviations_;
};

// Decoded images and labels on their way into the file; example counts of `shape` are the sizes of
// the label vectors.
struct DecodedDataset {
  DatasetShape shape;
  std::vector<uint8_t> train_images;
  std::vector<uint8_t> train_labels;
  std::vector<uint8_t> test_images;
  std::vector<uint8_t> test_labels;
};

// Writes the file durably and all at once. INVALID_ARGUMENT: sizes that do not fit together.
absl::Status WriteDataset(const DecodedDataset& data, const std::string& path);

}  // namespace normlab::engine
