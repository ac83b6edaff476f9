#include "engine/data/data_inspector.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/sha256.h"
#include "common/status_macros.h"
#include "engine/data/cache_folder.h"
#include "engine/data/data_files.h"
#include "engine/data/idx_file.h"
#include "engine/data/mapped_dataset.h"
#include "engine/spec/violation.h"

namespace normlab::engine {
namespace {

// Part of every key: another decoder must not use files of this one.
constexpr absl::string_view kDecoderVersion = "idx-1";
constexpr size_t kMaxVerdicts = 1000;
// Decoded sets that stay in the cache folder however long ago they were used, and how long any of
// them stays.
constexpr size_t kKeptSets = 8;
constexpr absl::Duration kCacheGrace = absl::Hours(1);
constexpr int32_t kSide = 28;
constexpr int32_t kClasses = 10;

// In the order of the members of DecodedDataset.
const std::array<std::string, 4> kNames = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                           "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

// One member of the source oneof.
struct Source {
  std::string name;    // fashion_mnist
  std::string path;    // as in the spec
  std::string remedy;  // ends the message about missing files
};

std::optional<Source> SourceOf(const v1::Data& data) {
  switch (data.source_case()) {
    case v1::Data::kFashionMnist:
      return Source{"fashion_mnist", data.fashion_mnist().path(),
                    "run `apt-get install dataset-fashion-mnist` on the server, or copy the four "
                    "files below a data root and name their folder"};
    case v1::Data::kMnist:
      return Source{"mnist", data.mnist().path(),
                    "copy the four files of MNIST below a data root and name their folder"};
    default:
      break;
  }
  return std::nullopt;
}

void AddViolation(const std::string& field, absl::string_view description, v1::DataReport& report) {
  v1::SpecViolation& violation = *report.add_violations();
  violation.set_field(field);
  violation.set_description(std::string(description));
}

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
  NORMLAB_ASSIGN_OR_RETURN(const FileIdentity after, IdentityOf(file.fd.get()));
  if (after != file.identity) {
    return absl::AbortedError(
        absl::StrCat(file.path, " changed while it was read; try again when it is complete"));
  }
  if (!images) {
    NORMLAB_RETURN_IF_ERROR(CheckLabels(file.path, array));
  }
  return array;
}

// Reads the four files and reports everything that is wrong with them. `lasting` is cleared when
// the verdict may be another one next time although the files stay the same.
std::optional<DecodedDataset> Decode(const std::vector<DataFile>& files,
                                     const std::string& field,
                                     v1::DataReport& report,
                                     bool& lasting) {
  std::array<IdxArray, 4> arrays;
  std::array<bool, 4> good{};
  for (size_t i = 0; i < files.size(); ++i) {
    auto array = ReadOne(files[i], /*images=*/i % 2 == 0);
    good[i] = array.ok();
    if (array.ok()) {
      arrays[i] = *std::move(array);
    } else {
      lasting = lasting && absl::IsInvalidArgument(array.status());
      AddViolation(field, array.status().message(), report);
    }
  }
  for (const size_t i : {size_t{0}, size_t{2}}) {
    if (good[i] && good[i + 1] && arrays[i].count != arrays[i + 1].count) {
      AddViolation(
          field,
          absl::StrCat(files[i].path, " has ", arrays[i].count, " images, but ", files[i + 1].path,
                       " has ", arrays[i + 1].count, " labels; use two files that belong together"),
          report);
    }
  }
  if (report.violations_size() > 0) {
    return std::nullopt;
  }
  DecodedDataset data;
  data.shape = {.channels = 1,
                .height = kSide,
                .width = kSide,
                .classes = kClasses,
                .train_examples = static_cast<int32_t>(arrays[0].count),
                .test_examples = static_cast<int32_t>(arrays[2].count)};
  data.train_images = std::move(arrays[0].values);
  data.train_labels = std::move(arrays[1].values);
  data.test_images = std::move(arrays[2].values);
  data.test_labels = std::move(arrays[3].values);
  return data;
}

void FillReport(const std::string& path, const DatasetShape& shape, v1::DataReport& report) {
  report.set_data_cache(path);
  report.set_train_examples(shape.train_examples);
  report.set_test_examples(shape.test_examples);
  report.set_channels(shape.channels);
  report.set_height(shape.height);
  report.set_width(shape.width);
  report.set_classes(shape.classes);
}

}  // namespace

v1::DataReport DataInspector::Inspect(const v1::InspectDataRequest& request) {
  v1::DataReport report;
  const std::optional<Source> source = SourceOf(request.data());
  if (!source.has_value()) {
    AddViolation("data", "names no data set; give for example {\"fashion_mnist\": {}}", report);
    return report;
  }
  const std::string field = absl::StrCat("data.", source->name, ".path");
  const std::vector<std::string> roots(request.data_roots().begin(), request.data_roots().end());
  const auto files = OpenDataFiles(source->path, roots, kNames);
  if (!files.ok()) {
    AddViolation(field,
                 absl::StrCat("is ", Quoted(source->path), ", where the data set was not found: ",
                              files.status().message(), "; ", source->remedy),
                 report);
    return report;
  }

  // The cache file follows from the contents alone; a verdict's messages name paths as well.
  std::string identities = absl::StrCat(kDecoderVersion, "|", source->name);
  std::string paths;
  for (const DataFile& file : *files) {
    absl::StrAppend(&identities, "|", file.identity.ToString());
    absl::StrAppend(&paths, "|", file.path);
  }
  const std::string cache_path =
      absl::StrCat(request.cache_folder(), "/", source->name, "-",
                   common::Sha256Hex(identities).substr(0, 32), kCacheSuffix);
  const std::string key = absl::StrCat(identities, paths, "|", cache_path);

  const auto known = verdicts_.find(key);
  if (known != verdicts_.end()) {
    const bool is_bad = known->second.violations_size() > 0;
    if (is_bad || MappedDataset::Open(cache_path).ok()) {
      MarkCacheFileUsed(cache_path);
      return known->second;
    }
  } else if (const auto cached = MappedDataset::Open(cache_path);
             cached.ok() && cached->VerifyContents().ok()) {
    // Made by an earlier helper.
    MarkCacheFileUsed(cache_path);
    FillReport(cache_path, cached->shape(), report);
  }
  bool lasting = true;
  if (report.data_cache().empty()) {
    const std::optional<DecodedDataset> data = Decode(*files, field, report, lasting);
    if (data.has_value()) {
      std::error_code ignored;  // WriteDataset tells what the matter is
      std::filesystem::create_directories(request.cache_folder(), ignored);
      const absl::Status written = WriteDataset(*data, cache_path);
      if (written.ok()) {
        PruneCacheFolder(request.cache_folder(), kKeptSets, kCacheGrace);
        FillReport(cache_path, data->shape, report);
      } else {
        lasting = false;
        AddViolation(
            field,
            absl::StrCat("is in order, but the server could not keep the decoded data set: ",
                         written.message(), "; make room below its data folder and try again"),
            report);
      }
    }
  }
  if (lasting) {
    if (verdicts_.size() >= kMaxVerdicts) {
      verdicts_.clear();
    }
    verdicts_[key] = report;
  }
  return report;
}

}  // namespace normlab::engine
