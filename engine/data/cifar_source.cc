// CIFAR-10 and CIFAR-100 in their binary versions.
#include <algorithm>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/data/cifar_file.h"
#include "engine/data/data_source.h"

namespace normlab::engine {
namespace {

constexpr int32_t kChannels = 3;
constexpr int32_t kSide = 32;

absl::StatusOr<CifarRecords> ReadOne(const DataFile& file,
                                     const CifarFormat& format,
                                     int64_t limit) {
  NORMLAB_ASSIGN_OR_RETURN(CifarRecords records,
                           ReadCifarFile(file.fd.get(), file.path, format, limit));
  NORMLAB_RETURN_IF_ERROR(CheckUnchanged(file));
  return records;
}

class CifarSource : public FileSource {
 public:
  // `files`: the test set, then the training batches.
  CifarSource(std::string name,
              std::string field,
              std::vector<DataFile> files,
              const CifarFormat& format)
      : FileSource(std::move(name), std::move(field), std::move(files)), format_(format) {}

  std::optional<DecodedDataset> Decode(DataProblems& problems) override {
    DecodedDataset data;
    int64_t left = kMaxDatasetBytes;
    for (size_t i = 0; i < files().size(); ++i) {
      const auto records = ReadOne(files()[i], format_, left);
      if (!records.ok()) {
        problems.Add(field(), records.status());
        continue;
      }
      left -= static_cast<int64_t>(records->images.size());
      DecodedPart& part = i == 0 ? data.test : data.train;
      std::copy(records->labels.begin(), records->labels.end(), std::back_inserter(part.labels));
      part.bytes.insert(part.bytes.end(), records->images.begin(), records->images.end());
    }
    if (!problems.violations.empty()) {
      return std::nullopt;
    }
    data.shape = {.channels = kChannels,
                  .height = kSide,
                  .width = kSide,
                  .classes = format_.classes,
                  .train_examples = static_cast<int32_t>(data.train.labels.size()),
                  .test_examples = static_cast<int32_t>(data.test.labels.size())};
    return data;
  }

 private:
  const CifarFormat format_;
};

}  // namespace

std::unique_ptr<DataSource> OpenCifarSource(const std::string& name,
                                            const std::string& path,
                                            absl::Span<const std::string> roots,
                                            DataProblems& problems) {
  const bool fine = name == "cifar100";
  std::vector<std::string> names = {"test_batch.bin", "data_batch_1.bin"};
  std::vector<std::string> optional_names;
  if (fine) {
    names = {"test.bin", "train.bin"};
  } else {
    for (int i = 2; i <= 5; ++i) {
      optional_names.push_back(absl::StrCat("data_batch_", i, ".bin"));
    }
  }
  std::string field = absl::StrCat("data.", name, ".path");
  auto files = OpenDataFiles(path, roots, names, optional_names);
  if (!files.ok()) {
    problems.AddNotFound(field, path, files.status(),
                         absl::StrCat("copy the files of the binary version of CIFAR-",
                                      fine ? 100 : 10, " below a data root and name their folder"));
    return nullptr;
  }
  // A gap is a file that was forgotten.
  for (size_t i = names.size(); i < files->size(); ++i) {
    const std::string& expected = optional_names[i - names.size()];
    if ((*files)[i].name != expected) {
      problems.Add(field,
                   absl::StrCat("is ", Quoted(path), ", which has ", (*files)[i].path, " but no ",
                                expected, "; copy that as well, or remove the later ones"));
      return nullptr;
    }
  }
  const CifarFormat format = fine ? CifarFormat{.label_bytes = 2, .classes = 100}
                                  : CifarFormat{.label_bytes = 1, .classes = 10};
  return std::make_unique<CifarSource>(name, std::move(field), *std::move(files), format);
}

}  // namespace normlab::engine
