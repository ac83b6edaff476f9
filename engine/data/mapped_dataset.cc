#include "engine/data/mapped_dataset.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "absl/strings/str_cat.h"

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"

namespace normlab::engine {
namespace {

constexpr size_t kHeaderBytes = 4096;
constexpr std::array<char, 8> kMagic = {'N', 'L', 'D', 'A', 'T', 'A', 1, 0};
constexpr uint32_t kByteOrder = 0x01020304;
constexpr int32_t kMaxImageChannels = 16;
constexpr int32_t kMaxSide = 4096;
constexpr int32_t kMaxClasses = 256;  // labels are bytes
constexpr size_t kDigestBytes = 32;
constexpr int kLevels = 256;

struct Header {
  std::array<char, 8> magic;
  uint32_t byte_order;
  int32_t channels;
  int32_t height;
  int32_t width;
  int32_t classes;
  int32_t train_examples;
  int32_t test_examples;
  int32_t reserved;
  std::array<double, kMaxImageChannels> means;
  std::array<double, kMaxImageChannels> deviations;
  std::array<char, kDigestBytes> contents_sha256;
  std::array<char, kDigestBytes> header_sha256;  // of all fields before
};
static_assert(std::is_trivially_copyable_v<Header> && sizeof(Header) <= kHeaderBytes);

std::string HeaderDigest(const Header& header) {
  return common::Sha256Bytes(
      absl::string_view(reinterpret_cast<const char*>(&header), offsetof(Header, header_sha256)));
}

bool IsPlausible(const DatasetShape& shape) {
  return shape.channels >= 1 && shape.channels <= kMaxImageChannels && shape.height >= 1 &&
         shape.height <= kMaxSide && shape.width >= 1 && shape.width <= kMaxSide &&
         shape.classes >= 1 && shape.classes <= kMaxClasses && shape.train_examples >= 1 &&
         shape.test_examples >= 1;
}

int64_t ContentBytes(const DatasetShape& shape) {
  return (int64_t{shape.channels} * shape.height * shape.width + 1) *
         (int64_t{shape.train_examples} + shape.test_examples);
}

absl::Status Damaged(const std::string& path, absl::string_view what) {
  return absl::DataLossError(absl::StrCat("cached data set ", path, " ", what,
                                          "; delete it, and it is made again from its source"));
}

// Exact: sums of bytes are integers.
void ComputeMoments(const DecodedDataset& data, Header& header) {
  const int64_t plane = int64_t{data.shape.height} * data.shape.width;
  for (int32_t channel = 0; channel < data.shape.channels; ++channel) {
    std::array<int64_t, kLevels> histogram{};
    for (int32_t n = 0; n < data.shape.train_examples; ++n) {
      const uint8_t* pixels =
          data.train_images.data() + (int64_t{n} * data.shape.channels + channel) * plane;
      for (int64_t i = 0; i < plane; ++i) {
        ++histogram[pixels[i]];
      }
    }
    const double count = static_cast<double>(plane) * data.shape.train_examples;
    double mean = 0;
    for (int v = 0; v < kLevels; ++v) {
      mean += static_cast<double>(histogram[v]) * v / 255.0;
    }
    mean /= count;
    double var = 0;
    for (int v = 0; v < kLevels; ++v) {
      const double distance = v / 255.0 - mean;
      var += static_cast<double>(histogram[v]) * distance * distance;
    }
    header.means[channel] = mean;
    header.deviations[channel] = std::sqrt(var / count);
  }
}

}  // namespace

absl::StatusOr<MappedDataset> MappedDataset::Open(const std::string& path) {
  const common::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!fd.valid() || fstat(fd.get(), &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open cached data set ", path));
  }
  if (info.st_size < static_cast<off_t>(kHeaderBytes)) {
    return Damaged(path, "is too short");
  }
  void* mapping =
      mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_SHARED, fd.get(), 0);
  if (mapping == MAP_FAILED) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot map cached data set ", path));
  }
  MappedDataset dataset;
  dataset.mapping_ = static_cast<const uint8_t*>(mapping);
  dataset.bytes_ = static_cast<size_t>(info.st_size);

  Header header{};
  std::memcpy(&header, dataset.mapping_, sizeof(header));
  const std::string digest = HeaderDigest(header);
  if (header.magic != kMagic || header.byte_order != kByteOrder ||
      !std::equal(digest.begin(), digest.end(), header.header_sha256.begin())) {
    return Damaged(path, "has a damaged or foreign header");
  }
  dataset.shape_ = {.channels = header.channels,
                    .height = header.height,
                    .width = header.width,
                    .classes = header.classes,
                    .train_examples = header.train_examples,
                    .test_examples = header.test_examples};
  if (!IsPlausible(dataset.shape_)) {
    return Damaged(path, "has impossible sizes");
  }
  const int64_t want = static_cast<int64_t>(kHeaderBytes) + ContentBytes(dataset.shape_);
  if (want != info.st_size) {
    return Damaged(path, absl::StrCat("has ", info.st_size, " bytes instead of ", want));
  }
  for (const auto labels : {dataset.train_labels(), dataset.test_labels()}) {
    if (*std::max_element(labels.begin(), labels.end()) >= header.classes) {
      return Damaged(path, "has a label out of range");
    }
  }
  dataset.means_.assign(header.means.begin(), header.means.begin() + header.channels);
  dataset.deviations_.assign(header.deviations.begin(),
                             header.deviations.begin() + header.channels);
  // Read ahead: the first epoch visits everything in random order.
  madvise(mapping, dataset.bytes_, MADV_WILLNEED);
  return dataset;
}

MappedDataset& MappedDataset::operator=(MappedDataset&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(bytes_, other.bytes_);
  shape_ = other.shape_;
  means_ = std::move(other.means_);
  deviations_ = std::move(other.deviations_);
  return *this;
}

MappedDataset::~MappedDataset() {
  if (mapping_ != nullptr) {
    munmap(const_cast<uint8_t*>(mapping_), bytes_);  // NOLINT: munmap takes no pointer to const
  }
}

absl::Status MappedDataset::VerifyContents() const {
  Header header{};
  std::memcpy(&header, mapping_, sizeof(header));
  const std::string digest = common::Sha256Bytes(absl::string_view(
      reinterpret_cast<const char*>(mapping_) + kHeaderBytes, bytes_ - kHeaderBytes));
  return std::equal(digest.begin(), digest.end(), header.contents_sha256.begin())
             ? absl::OkStatus()
             : absl::DataLossError("a cached data set's contents do not match their checksum");
}

absl::Span<const uint8_t> MappedDataset::Part(int64_t offset, int64_t bytes) const {
  return {mapping_ + kHeaderBytes + offset, static_cast<size_t>(bytes)};
}

absl::Span<const uint8_t> MappedDataset::train_images() const {
  return Part(0, example_bytes() * shape_.train_examples);
}

absl::Span<const uint8_t> MappedDataset::train_labels() const {
  return Part(example_bytes() * shape_.train_examples, shape_.train_examples);
}

absl::Span<const uint8_t> MappedDataset::test_images() const {
  return Part((example_bytes() + 1) * shape_.train_examples,
              example_bytes() * shape_.test_examples);
}

absl::Span<const uint8_t> MappedDataset::test_labels() const {
  return Part(
      (example_bytes() + 1) * shape_.train_examples + example_bytes() * shape_.test_examples,
      shape_.test_examples);
}

absl::Status WriteDataset(const DecodedDataset& data, const std::string& path) {
  const DatasetShape& shape = data.shape;
  const auto image_bytes = static_cast<size_t>(shape.channels) * shape.height * shape.width;
  if (!IsPlausible(shape) ||
      data.train_labels.size() != static_cast<size_t>(shape.train_examples) ||
      data.test_labels.size() != static_cast<size_t>(shape.test_examples) ||
      data.train_images.size() != image_bytes * shape.train_examples ||
      data.test_images.size() != image_bytes * shape.test_examples) {
    return absl::InvalidArgumentError("a decoded data set's sizes do not fit together");
  }
  Header header{};
  header.magic = kMagic;
  header.byte_order = kByteOrder;
  header.channels = shape.channels;
  header.height = shape.height;
  header.width = shape.width;
  header.classes = shape.classes;
  header.train_examples = shape.train_examples;
  header.test_examples = shape.test_examples;
  ComputeMoments(data, header);

  std::string file(kHeaderBytes, '\0');
  file.reserve(kHeaderBytes + static_cast<size_t>(ContentBytes(shape)));
  for (const auto* part :
       {&data.train_images, &data.train_labels, &data.test_images, &data.test_labels}) {
    file.append(part->begin(), part->end());
  }
  const std::string digest = common::Sha256Bytes(absl::string_view(file).substr(kHeaderBytes));
  std::copy(digest.begin(), digest.end(), header.contents_sha256.begin());
  const std::string header_digest = HeaderDigest(header);
  std::copy(header_digest.begin(), header_digest.end(), header.header_sha256.begin());
  std::memcpy(file.data(), &header, sizeof(header));
  return common::WriteFileAtomically(path, file);
}

}  // namespace normlab::engine
