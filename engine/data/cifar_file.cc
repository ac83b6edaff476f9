#include "engine/data/cifar_file.h"

#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/data/byte_source.h"
#include "engine/spec/limits.h"

namespace normlab::engine {
namespace {

constexpr int64_t kImageBytes = int64_t{3} * 32 * 32;

absl::Status Wrong(const std::string& name, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(name, " ", problem));
}

}  // namespace

absl::StatusOr<CifarRecords> ReadCifarFile(int fd,
                                           const std::string& name,
                                           const CifarFormat& format,
                                           int64_t limit) {
  NORMLAB_ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> source, ByteSource::Open(fd, name));
  const int64_t record_bytes = format.label_bytes + kImageBytes;
  std::vector<uint8_t> record(static_cast<size_t>(record_bytes));
  CifarRecords records;
  while (true) {
    NORMLAB_ASSIGN_OR_RETURN(const int64_t got, source->Read(record.data(), record_bytes));
    const auto count = static_cast<int64_t>(records.labels.size());
    if (got == 0) {
      break;
    }
    if (got < record_bytes) {
      return Wrong(name, absl::StrCat("has ", count * record_bytes + got,
                                      " bytes, which is not a "
                                      "multiple of the ",
                                      record_bytes,
                                      " of a record: it is truncated or has another format; copy "
                                      "or download the binary version again"));
    }
    if ((count + 1) * kImageBytes > limit) {
      return Wrong(name, absl::StrCat("makes the data set larger than ", kMaxDatasetBytes,
                                      " bytes of images; use a smaller one"));
    }
    const int32_t label = record[static_cast<size_t>(format.label_bytes - 1)];
    if (label >= format.classes) {
      return Wrong(name, absl::StrCat("has label ", label, " at index ", count,
                                      ", but labels must be from 0 to ", format.classes - 1,
                                      "; use the binary version of CIFAR-", format.classes));
    }
    records.labels.push_back(label);
    records.images.insert(records.images.end(), record.begin() + format.label_bytes, record.end());
  }
  if (records.labels.empty()) {
    return Wrong(name, "is empty; copy or download it again");
  }
  return records;
}

}  // namespace normlab::engine
