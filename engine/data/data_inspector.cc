#include "engine/data/data_inspector.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/cache_folder.h"
#include "common/sha256.h"
#include "engine/data/data_source.h"
#include "engine/data/dataset_format.h"
#include "engine/data/mapped_dataset.h"

namespace normlab::engine {
namespace {

// Part of every key: another decoder or file format must not use files of this one.
constexpr absl::string_view kDecoderVersion = "2";
constexpr size_t kMaxVerdicts = 1000;

void FillReport(const std::string& path, const DatasetShape& shape, v1::DataReport& report) {
  report.set_data_cache(path);
  report.set_train_examples(shape.train_examples);
  report.set_test_examples(shape.test_examples);
  report.set_channels(shape.channels);
  report.set_height(shape.height);
  report.set_width(shape.width);
  report.set_classes(shape.classes);
  report.set_targets(shape.targets);
  report.set_dense(shape.dense);
  report.set_floats(shape.floats);
}

// A verdict on files that are in order holds while they are as they were. One on files that are not
// may change with what is beside them, so it does not.
void FillVersions(const DataSource& source, v1::DataReport& report) {
  report.set_lasting(true);
  for (const DataFile& file : source.LookedAt()) {
    v1::FileVersion& version = *report.add_files();
    version.set_path(file.path);
    version.set_device(file.identity.device);
    version.set_inode(file.identity.inode);
    version.set_bytes(file.identity.bytes);
    version.set_modified_ns(file.identity.modified_ns);
  }
}

void AddViolations(const DataProblems& problems, v1::DataReport& report) {
  for (const Violation& violation : problems.violations) {
    v1::SpecViolation& added = *report.add_violations();
    added.set_field(violation.field);
    added.set_description(violation.description);
  }
  // What is the machine's alone may pass at any time.
  report.set_lasting(problems.own_fault);
}

// For the decoded set in the folder.
absl::Status MakeRoom(const DatasetShape& shape, const std::string& folder) {
  std::error_code ignored;
  // A folder that is not there cannot be made, which writing to it tells.
  return std::filesystem::is_directory(folder, ignored)
             ? common::MakeRoomInCache(folder, dataset_format::LayoutOf(shape).end,
                                       common::FreeBytes(folder))
             : absl::OkStatus();
}

// Decodes the set and keeps it at `cache_path`; the shape of what was written, or `problems`.
std::optional<DatasetShape> DecodeAndKeep(DataSource& source,
                                          const std::string& folder,
                                          const std::string& cache_path,
                                          DataProblems& problems) {
  std::error_code ignored;  // WriteDataset tells what the matter is
  std::filesystem::create_directories(folder, ignored);
  absl::Status kept;
  // What follows from the spec is not made in vain.
  const std::optional<DatasetShape> known = source.KnownShape();
  if (known.has_value()) {
    kept = MakeRoom(*known, folder);
  }
  std::optional<DecodedDataset> data;
  if (kept.ok()) {
    data = source.Decode(problems);
    if (!data.has_value()) {
      return std::nullopt;
    }
    if (!known.has_value()) {
      kept = MakeRoom(data->shape, folder);
    }
  }
  if (kept.ok()) {
    kept = WriteDataset(*data, cache_path);
  }
  if (!kept.ok()) {
    problems.AddPassing(
        source.field(),
        absl::StrCat("is in order, but the server could not keep the decoded data set: ",
                     kept.message(), "; make room on the disk of its work folder and try again"));
    return std::nullopt;
  }
  common::PruneCacheFolder(folder, common::kCacheLimits);
  return data->shape;
}

}  // namespace

v1::DataReport DataInspector::Inspect(const v1::InspectDataRequest& request) {
  v1::DataReport report;
  DataProblems problems;
  const std::vector<std::string> roots(request.data_roots().begin(), request.data_roots().end());
  const std::unique_ptr<DataSource> source = OpenDataSource(request.data(), roots, problems);
  if (source == nullptr) {
    AddViolations(problems, report);
    return report;
  }

  if (const std::optional<DatasetShape> shape = source->KnownShape();
      request.cache_folder().empty() && shape.has_value()) {
    FillReport("", *shape, report);
    FillVersions(*source, report);
    return report;
  }

  // The cache file follows from the contents alone; a verdict's messages name paths as well.
  const std::string identity =
      absl::StrCat(kDecoderVersion, "|", source->name(), "|", source->Identity());
  const std::string cache_path =
      absl::StrCat(request.cache_folder(), "/", source->name(), "-",
                   common::Sha256Hex(identity).substr(0, 32), common::kCacheSuffix);
  const std::string key = absl::StrCat(identity, "|", source->Paths(), "|", cache_path);

  const auto known = verdicts_.find(key);
  if (known != verdicts_.end()) {
    const bool is_bad = known->second.violations_size() > 0;
    if (is_bad || MappedDataset::Open(cache_path).ok()) {
      common::MarkCacheFileUsed(cache_path);
      return known->second;
    }
  } else if (const auto cached = MappedDataset::Open(cache_path);
             cached.ok() && cached->VerifyContents().ok()) {
    // Made by an earlier helper.
    common::MarkCacheFileUsed(cache_path);
    FillReport(cache_path, cached->shape(), report);
  }
  if (report.data_cache().empty()) {
    const std::optional<DatasetShape> shape =
        DecodeAndKeep(*source, request.cache_folder(), cache_path, problems);
    if (shape.has_value()) {
      FillReport(cache_path, *shape, report);
    }
    AddViolations(problems, report);
  }
  if (report.violations().empty()) {
    FillVersions(*source, report);
  }
  if (problems.lasting) {
    if (verdicts_.size() >= kMaxVerdicts) {
      verdicts_.clear();
    }
    verdicts_[key] = report;
  }
  return report;
}

}  // namespace normlab::engine
