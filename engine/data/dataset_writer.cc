#include "engine/data/dataset_writer.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

#include "common/atomic_file.h"
#include "common/ids.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"
#include "engine/data/dataset_format.h"

namespace normlab::engine {
namespace {

using dataset_format::Header;
using dataset_format::kHeaderBytes;
using dataset_format::Layout;

constexpr double kLargestByte = 255;

struct Moments {
  std::vector<double> means;
  std::vector<double> deviations;
};

// Exact sums: a byte's square times 2^33 values fits 64 bits.
Moments MomentsOfBytes(const DatasetShape& shape, absl::Span<const uint8_t> values) {
  const int64_t plane = int64_t{shape.height} * shape.width;
  std::vector<int64_t> sums(static_cast<size_t>(shape.channels));
  std::vector<int64_t> squares(static_cast<size_t>(shape.channels));
  const uint8_t* pixel = values.data();
  for (int32_t n = 0; n < shape.train_examples; ++n) {
    for (int32_t channel = 0; channel < shape.channels; ++channel) {
      int64_t sum = 0;
      int64_t square = 0;
      for (int64_t i = 0; i < plane; ++i, ++pixel) {
        sum += *pixel;
        square += int64_t{*pixel} * *pixel;
      }
      sums[channel] += sum;
      squares[channel] += square;
    }
  }
  const int64_t count = plane * shape.train_examples;
  Moments moments;
  for (int32_t channel = 0; channel < shape.channels; ++channel) {
    const __int128 variance = static_cast<__int128>(squares[channel]) * count -
                              static_cast<__int128>(sums[channel]) * sums[channel];
    const double scale = kLargestByte * static_cast<double>(count);
    moments.means.push_back(static_cast<double>(sums[channel]) / scale);
    moments.deviations.push_back(std::sqrt(static_cast<double>(variance)) / scale);
  }
  return moments;
}

Moments MomentsOfFloats(const DatasetShape& shape, absl::Span<const float> values) {
  const int64_t plane = int64_t{shape.height} * shape.width;
  const auto channels = static_cast<size_t>(shape.channels);
  const double count = static_cast<double>(plane) * shape.train_examples;
  Moments moments = {std::vector<double>(channels), std::vector<double>(channels)};
  // Where nothing ever changes, rounding must not make up a deviation to divide by.
  std::vector<float> first(channels);
  std::vector<uint8_t> changes(channels);
  for (size_t channel = 0; channel < channels; ++channel) {
    first[channel] = values[channel * static_cast<size_t>(plane)];
  }
  const auto for_each = [&](const auto& visit) {
    const float* value = values.data();
    for (int32_t n = 0; n < shape.train_examples; ++n) {
      for (size_t channel = 0; channel < channels; ++channel) {
        for (int64_t i = 0; i < plane; ++i, ++value) {
          visit(channel, *value);
        }
      }
    }
  };
  for_each([&](size_t channel, float value) {
    moments.means[channel] += value;
    changes[channel] |= static_cast<uint8_t>(value != first[channel]);
  });
  for (size_t channel = 0; channel < channels; ++channel) {
    moments.means[channel] =
        changes[channel] != 0 ? moments.means[channel] / count : first[channel];
  }
  for_each([&](size_t channel, float value) {
    const double distance = value - moments.means[channel];
    moments.deviations[channel] += distance * distance;
  });
  for (size_t channel = 0; channel < channels; ++channel) {
    moments.deviations[channel] =
        changes[channel] != 0 ? std::sqrt(moments.deviations[channel] / count) : 0;
  }
  return moments;
}

bool Fits(const DatasetShape& shape, const DecodedPart& part, int64_t examples) {
  const auto values = static_cast<size_t>(examples * shape.example_values());
  const auto answers = static_cast<size_t>(examples * std::max(shape.targets, 1));
  return part.bytes.size() == (shape.floats ? 0 : values) &&
         part.floats.size() == (shape.floats ? values : 0) &&
         part.labels.size() == (shape.targets > 0 ? 0 : answers) &&
         part.targets.size() == (shape.targets > 0 ? answers : 0) &&
         std::all_of(part.labels.begin(), part.labels.end(),
                     [&](int32_t label) { return label >= 0 && label < shape.classes; });
}

// Writes sections one after the other and their checksum. Removes the file unless it is kept.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& target)
      : path_(absl::StrCat(target, ".", absl::BytesToHexString(common::RandomBytes(6)), ".tmp")),
        fd_(open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) {}
  ~TemporaryFile() {
    if (fd_.valid() && !kept_) {
      unlink(path_.c_str());
    }
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  absl::Status status() const { return fd_.valid() ? absl::OkStatus() : Error("cannot create"); }

  // Appends bytes at `offset`, with zeros before them.
  template <typename T>
  absl::Status Append(int64_t offset, absl::Span<const T> values) {
    NORMLAB_RETURN_IF_ERROR(PadTo(offset));
    return AppendBytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }

  absl::Status PadTo(int64_t offset) {
    const std::string zeros(static_cast<size_t>(offset - at_), '\0');
    return AppendBytes(zeros.data(), zeros.size());
  }

  std::string ContentsDigest() { return sha256_.Finish(); }

  absl::Status Finish(const Header& header, const std::string& target) {
    if (pwrite(fd_.get(), &header, sizeof(header), 0) != static_cast<ssize_t>(sizeof(header))) {
      return Error("cannot write");
    }
    if (fsync(fd_.get()) != 0) {
      return Error("cannot flush");
    }
    if (rename(path_.c_str(), target.c_str()) != 0) {
      return Error("cannot rename");
    }
    kept_ = true;
    const std::string folder = std::filesystem::path(target).parent_path().string();
    return common::SyncFolder(folder.empty() ? "." : folder);
  }

  absl::Status SkipHeader() {
    if (lseek(fd_.get(), kHeaderBytes, SEEK_SET) < 0) {
      return Error("cannot seek in");
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Error(absl::string_view what) const {
    return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path_));
  }

  absl::Status AppendBytes(const char* data, size_t bytes) {
    sha256_.Update(data, bytes);
    at_ += static_cast<int64_t>(bytes);
    while (bytes > 0) {
      const ssize_t written = write(fd_.get(), data, bytes);
      if (written < 0 && errno == EINTR) {
        continue;
      }
      if (written < 0) {
        return Error("cannot write");
      }
      data += written;
      bytes -= static_cast<size_t>(written);
    }
    return absl::OkStatus();
  }

  const std::string path_;
  const common::UniqueFd fd_;
  common::Sha256 sha256_;
  int64_t at_ = kHeaderBytes;
  bool kept_ = false;
};

absl::Status AppendPart(const DecodedPart& part, const Layout::Part& layout, TemporaryFile& file) {
  // Of each pair one is empty.
  NORMLAB_RETURN_IF_ERROR(file.Append(layout.values, absl::MakeConstSpan(part.bytes)));
  if (part.bytes.empty()) {
    NORMLAB_RETURN_IF_ERROR(file.Append(layout.values, absl::MakeConstSpan(part.floats)));
  }
  if (part.targets.empty()) {
    return file.Append(layout.answers, absl::MakeConstSpan(part.labels));
  }
  return file.Append(layout.answers, absl::MakeConstSpan(part.targets));
}

}  // namespace

absl::Status WriteDataset(const DecodedDataset& data, const std::string& path) {
  const DatasetShape& shape = data.shape;
  if (!dataset_format::IsPlausible(shape) || !Fits(shape, data.train, shape.train_examples) ||
      !Fits(shape, data.test, shape.test_examples)) {
    return absl::InvalidArgumentError("a decoded data set's sizes do not fit together");
  }
  const Moments moments = shape.floats ? MomentsOfFloats(shape, data.train.floats)
                                       : MomentsOfBytes(shape, data.train.bytes);
  const Layout layout = dataset_format::LayoutOf(shape);
  TemporaryFile file(path);
  NORMLAB_RETURN_IF_ERROR(file.status());
  NORMLAB_RETURN_IF_ERROR(file.SkipHeader());
  NORMLAB_RETURN_IF_ERROR(file.Append(layout.means, absl::MakeConstSpan(moments.means)));
  NORMLAB_RETURN_IF_ERROR(file.Append(layout.deviations, absl::MakeConstSpan(moments.deviations)));
  NORMLAB_RETURN_IF_ERROR(AppendPart(data.train, layout.train, file));
  NORMLAB_RETURN_IF_ERROR(AppendPart(data.test, layout.test, file));
  NORMLAB_RETURN_IF_ERROR(file.PadTo(layout.end));

  Header header{};
  header.magic = dataset_format::kMagic;
  header.byte_order = dataset_format::kByteOrder;
  header.channels = shape.channels;
  header.height = shape.height;
  header.width = shape.width;
  header.classes = shape.classes;
  header.targets = shape.targets;
  header.train_examples = shape.train_examples;
  header.test_examples = shape.test_examples;
  header.dense = shape.dense ? 1 : 0;
  header.floats = shape.floats ? 1 : 0;
  const std::string digest = file.ContentsDigest();
  std::copy(digest.begin(), digest.end(), header.contents_sha256.begin());
  const std::string header_digest = dataset_format::HeaderDigest(header);
  std::copy(header_digest.begin(), header_digest.end(), header.header_sha256.begin());
  return file.Finish(header, path);
}

}  // namespace normlab::engine
