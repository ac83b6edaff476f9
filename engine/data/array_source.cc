// A user's own arrays: four .npy files, or one .npz or .safetensors file.
#include <array>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/data/array_dataset.h"
#include "engine/data/array_file.h"
#include "engine/data/data_source.h"

namespace normlab::engine {
namespace {

constexpr char kName[] = "arrays";
constexpr char kPathField[] = "data.arrays.path";
constexpr char kRemedy[] = "copy the file below a data root and name it";

const std::array<std::string, 4> kParts = {"x_train", "y_train", "x_test", "y_test"};

std::array<ArrayPart*, 4> InOrder(ArrayParts& parts) {
  return {&parts.x_train, &parts.y_train, &parts.x_test, &parts.y_test};
}

class ArchiveSource : public FileSource {
 public:
  using FileSource::FileSource;

  std::optional<DecodedDataset> Decode(DataProblems& problems) override {
    const DataFile& file = files()[0];
    auto arrays = ReadArchive(file.fd.get(), file.path);
    absl::Status status = arrays.status();
    status.Update(CheckUnchanged(file));
    if (!status.ok()) {
      problems.Add(field(), status);
      return std::nullopt;
    }
    ArrayParts parts;
    for (size_t i = 0; i < kParts.size(); ++i) {
      *InOrder(parts)[i] = {.field = field(), .array = std::move(arrays->at(kParts[i]))};
    }
    return CombineArrays(std::move(parts), problems);
  }
};

class NpySource : public FileSource {
 public:
  using FileSource::FileSource;

  std::optional<DecodedDataset> Decode(DataProblems& problems) override {
    ArrayParts parts;
    int64_t left = kMaxDatasetBytes;
    for (size_t i = 0; i < kParts.size(); ++i) {
      absl::StatusOr<Array> array = ReadOne(files()[i], left);
      left -= array.ok() ? static_cast<int64_t>(array->bytes.size()) : 0;
      *InOrder(parts)[i] = {.field = absl::StrCat(field(), ".", kParts[i]),
                            .array = std::move(array)};
    }
    return CombineArrays(std::move(parts), problems);
  }

 private:
  static absl::StatusOr<Array> ReadOne(const DataFile& file, int64_t limit) {
    absl::StatusOr<Array> array = ReadNpyFile(file.fd.get(), file.path, limit);
    NORMLAB_RETURN_IF_ERROR(CheckUnchanged(file));
    return array;
  }
};

}  // namespace

std::unique_ptr<DataSource> OpenArraySource(const v1::ArrayFiles& arrays,
                                            absl::Span<const std::string> roots,
                                            DataProblems& problems) {
  std::vector<DataFile> files;
  if (!arrays.path().empty()) {
    auto file = OpenDataFile(arrays.path(), roots);
    if (!file.ok()) {
      problems.AddNotFound(kPathField, arrays.path(), file.status(), kRemedy);
      return nullptr;
    }
    files.push_back(*std::move(file));
    return std::make_unique<ArchiveSource>(kName, kPathField, std::move(files));
  }
  const std::array<const std::string*, 4> paths = {&arrays.x_train(), &arrays.y_train(),
                                                   &arrays.x_test(), &arrays.y_test()};
  for (size_t i = 0; i < paths.size(); ++i) {
    auto file = OpenDataFile(*paths[i], roots);
    if (file.ok()) {
      // The same four files in other roles are another data set.
      file->name = kParts[i];
      files.push_back(*std::move(file));
    } else {
      problems.AddNotFound(absl::StrCat("data.arrays.", kParts[i]), *paths[i], file.status(),
                           kRemedy);
    }
  }
  if (files.size() < paths.size()) {
    return nullptr;
  }
  return std::make_unique<NpySource>(kName, "data.arrays", std::move(files));
}

}  // namespace normlab::engine
