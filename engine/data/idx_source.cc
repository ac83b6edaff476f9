// Four IDX files of 28x28 grey images in 10 classes: MNIST and what has its form.
#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/data/data_source.h"
#include "engine/data/idx_file.h"

namespace normlab::engine {
namespace {

constexpr int32_t kSide = 28;
constexpr int32_t kClasses = 10;

// Training images and labels, test images and labels.
const std::array<std::string, 4> kNames = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                           "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

absl::Status CheckLabels(const std::string& path, const IdxArray& labels) {
  const auto bad = std::find_if(labels.values.begin(), labels.values.end(),
                                [](uint8_t label) { return label >= kClasses; });
  if (bad == labels.values.end()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(path, " has label ", int{*bad}, " at index ",
                                                 bad - labels.values.begin(),
                                                 ", but labels must be from 0 to ", kClasses - 1,
                                                 "; use a data set of ", kClasses, " classes"));
}

absl::StatusOr<IdxArray> ReadOne(const DataFile& file, bool images) {
  IdxExpectation expected;
  if (images) {
    expected = {.rank = 3, .item_dims = {kSide, kSide}};
  }
  NORMLAB_ASSIGN_OR_RETURN(IdxArray array, ReadIdxFile(file.fd.get(), file.path, expected));
  NORMLAB_RETURN_IF_ERROR(CheckUnchanged(file));
  if (!images) {
    NORMLAB_RETURN_IF_ERROR(CheckLabels(file.path, array));
  }
  return array;
}

DecodedPart PartOf(IdxArray& images, const IdxArray& labels) {
  DecodedPart part;
  part.bytes = std::move(images.values);
  part.labels.assign(labels.values.begin(), labels.values.end());
  return part;
}

class IdxSource : public FileSource {
 public:
  using FileSource::FileSource;

  std::optional<DecodedDataset> Decode(DataProblems& problems) override {
    std::array<IdxArray, 4> arrays;
    std::array<bool, 4> good{};
    for (size_t i = 0; i < files().size(); ++i) {
      auto array = ReadOne(files()[i], /*images=*/i % 2 == 0);
      good[i] = array.ok();
      if (array.ok()) {
        arrays[i] = *std::move(array);
      } else {
        problems.Add(field(), array.status());
      }
    }
    for (const size_t i : {size_t{0}, size_t{2}}) {
      if (good[i] && good[i + 1] && arrays[i].count != arrays[i + 1].count) {
        problems.Add(field(),
                     absl::StrCat(files()[i].path, " has ", arrays[i].count, " images, but ",
                                  files()[i + 1].path, " has ", arrays[i + 1].count,
                                  " labels; use two files that belong together"));
      }
    }
    if (!problems.violations.empty()) {
      return std::nullopt;
    }
    DecodedDataset data;
    data.shape = {.channels = 1,
                  .height = kSide,
                  .width = kSide,
                  .classes = kClasses,
                  .train_examples = static_cast<int32_t>(arrays[0].count),
                  .test_examples = static_cast<int32_t>(arrays[2].count)};
    data.train = PartOf(arrays[0], arrays[1]);
    data.test = PartOf(arrays[2], arrays[3]);
    return data;
  }
};

}  // namespace

std::unique_ptr<DataSource> OpenIdxSource(const std::string& name,
                                          const std::string& path,
                                          const std::string& remedy,
                                          absl::Span<const std::string> roots,
                                          DataProblems& problems) {
  std::string field = absl::StrCat("data.", name, ".path");
  auto files = OpenDataFiles(path, roots, kNames);
  if (!files.ok()) {
    problems.AddNotFound(field, path, files.status(), remedy);
    return nullptr;
  }
  return std::make_unique<IdxSource>(name, std::move(field), *std::move(files));
}

}  // namespace normlab::engine
