#include "engine/data/mapped_dataset.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"

#include "common/sha256.h"
#include "common/unique_fd.h"
#include "engine/data/dataset_format.h"

namespace normlab::engine {
namespace {

using dataset_format::Header;
using dataset_format::kHeaderBytes;
using dataset_format::Layout;

absl::Status Damaged(const std::string& path, absl::string_view what) {
  return absl::DataLossError(absl::StrCat("cached data set ", path, " ", what,
                                          "; delete it, and it is made again from its source"));
}

template <typename T>
absl::Span<const T> Section(const uint8_t* file, int64_t offset, int64_t bytes) {
  return {reinterpret_cast<const T*>(file + offset), static_cast<size_t>(bytes) / sizeof(T)};
}

MappedPart PartOf(const uint8_t* file,
                  const DatasetShape& shape,
                  int64_t examples,
                  const Layout::Part& layout) {
  MappedPart part;
  part.examples = examples;
  if (shape.floats) {
    part.floats = Section<float>(file, layout.values, layout.values_bytes);
  } else {
    part.bytes = Section<uint8_t>(file, layout.values, layout.values_bytes);
  }
  if (shape.targets > 0) {
    part.targets = Section<float>(file, layout.answers, layout.answers_bytes);
  } else {
    part.labels = Section<int32_t>(file, layout.answers, layout.answers_bytes);
  }
  return part;
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
  const std::string digest = dataset_format::HeaderDigest(header);
  if (header.magic != dataset_format::kMagic || header.byte_order != dataset_format::kByteOrder ||
      header.dense > 1 || header.floats > 1 ||
      !std::equal(digest.begin(), digest.end(), header.header_sha256.begin())) {
    return Damaged(path, "has a damaged or foreign header, or is of another version");
  }
  const DatasetShape shape = {.channels = header.channels,
                              .height = header.height,
                              .width = header.width,
                              .classes = header.classes,
                              .train_examples = header.train_examples,
                              .test_examples = header.test_examples,
                              .targets = header.targets,
                              .dense = header.dense != 0,
                              .floats = header.floats != 0};
  if (!dataset_format::IsPlausible(shape)) {
    return Damaged(path, "has impossible sizes");
  }
  const Layout layout = dataset_format::LayoutOf(shape);
  if (layout.end != info.st_size) {
    return Damaged(path, absl::StrCat("has ", info.st_size, " bytes instead of ", layout.end));
  }
  dataset.shape_ = shape;
  dataset.sha256_ = dataset_format::SetSha256(header);
  dataset.train_ = PartOf(dataset.mapping_, shape, shape.train_examples, layout.train);
  dataset.test_ = PartOf(dataset.mapping_, shape, shape.test_examples, layout.test);
  for (const MappedPart* part : {&dataset.train_, &dataset.test_}) {
    if (std::any_of(part->labels.begin(), part->labels.end(),
                    [&](int32_t label) { return label < 0 || label >= shape.classes; })) {
      return Damaged(path, "has a label out of range");
    }
  }
  const auto moment_bytes = static_cast<int64_t>(sizeof(double)) * shape.channels;
  dataset.means_ = Section<double>(dataset.mapping_, layout.means, moment_bytes);
  dataset.deviations_ = Section<double>(dataset.mapping_, layout.deviations, moment_bytes);
  for (size_t i = 0; i < dataset.means_.size(); ++i) {
    if (!std::isfinite(dataset.means_[i]) || !std::isfinite(dataset.deviations_[i]) ||
        dataset.deviations_[i] < 0) {
      return Damaged(path, "has impossible statistics");
    }
  }
  // Read ahead: the first epoch visits everything in random order.
  madvise(mapping, dataset.bytes_, MADV_WILLNEED);
  return dataset;
}

MappedDataset& MappedDataset::operator=(MappedDataset&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(bytes_, other.bytes_);
  shape_ = other.shape_;
  sha256_ = std::move(other.sha256_);
  train_ = other.train_;
  test_ = other.test_;
  means_ = other.means_;
  deviations_ = other.deviations_;
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

}  // namespace normlab::engine
