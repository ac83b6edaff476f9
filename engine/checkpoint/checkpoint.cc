#include "engine/checkpoint/checkpoint.h"

#include <stdio.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "common/status_macros.h"

#include <nlohmann/json.hpp>

namespace normlab::engine {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr char kManifest[] = "manifest.json";
constexpr char kModel[] = "model.safetensors";
constexpr char kOptimizer[] = "optimizer.safetensors";
constexpr char kFormat[] = "normlab-checkpoint";
constexpr int kVersion = 1;
constexpr char kInitialWeights[] = "initial_weights_sha256";
constexpr char kData[] = "data_sha256";
constexpr char kMeasuredChoices[] = "measured_choices";
constexpr char kLatestMetrics[] = "latest_metrics";
constexpr absl::string_view kPrefix = "step-";
constexpr absl::string_view kTemporarySuffix = ".writing";
constexpr size_t kMaxManifestBytes = size_t{1} << 26;
constexpr size_t kMaxFileBytes = size_t{1} << 40;

absl::Status Damaged(const std::string& folder, absl::string_view problem) {
  return absl::DataLossError(absl::StrCat("checkpoint ", folder, ": ", problem,
                                          "; use another checkpoint, or start from the beginning"));
}

absl::Status FileSystemError(const std::error_code& error, absl::string_view what) {
  return absl::ErrnoToStatus(error.value(), what);
}

absl::string_view AsBytes(absl::Span<const float> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

absl::string_view AsBytes(const int64_t& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// Writes one safetensors file and describes it in the manifest.
absl::Status WriteTensors(const fs::path& folder,
                          const char* file,
                          const std::vector<ConstTensor>& tensors,
                          const std::vector<ConstCounter>& counters,
                          Json& manifest,
                          WrittenCheckpoint& written) {
  const std::string encoded = EncodeSafetensors(tensors, counters);
  NORMLAB_RETURN_IF_ERROR(common::WriteFileSynced((folder / file).string(), encoded));
  Json checksums = Json::object();
  for (const ConstTensor& tensor : tensors) {
    checksums[tensor.name] = common::Sha256Hex(AsBytes(tensor.values));
  }
  for (const ConstCounter& counter : counters) {
    checksums[counter.name] = common::Sha256Hex(AsBytes(counter.value));
  }
  const auto bytes = static_cast<int64_t>(encoded.size());
  const std::string sha256 = common::Sha256Hex(encoded);
  manifest["files"][file] = {
      {"bytes", bytes}, {"sha256", sha256}, {"tensors", std::move(checksums)}};
  written.files.push_back({file, bytes, sha256});
  written.bytes += bytes;
  return absl::OkStatus();
}

absl::StatusOr<WrittenCheckpoint> WriteFolder(const fs::path& temporary,
                                              const CheckpointContents& contents) {
  Json manifest = {{"format", kFormat},
                   {"version", kVersion},
                   {"step", contents.step},
                   {"seed", contents.seed},
                   {"spec_sha256", contents.spec_sha256},
                   {"files", Json::object()}};
  if (!contents.data_sha256.empty()) {
    manifest[kData] = contents.data_sha256;
  }
  if (!contents.initial_weights_sha256.empty()) {
    manifest[kInitialWeights] = contents.initial_weights_sha256;
  }
  if (!contents.measured_choices.empty()) {
    manifest[kMeasuredChoices] = contents.measured_choices;
  }
  if (!contents.latest_metrics.empty()) {
    manifest[kLatestMetrics] = contents.latest_metrics;
  }
  WrittenCheckpoint written;
  NORMLAB_RETURN_IF_ERROR(WriteTensors(temporary, kModel, contents.model, {}, manifest, written));
  if (!contents.optimizer.empty() || !contents.optimizer_counters.empty()) {
    NORMLAB_RETURN_IF_ERROR(WriteTensors(temporary, kOptimizer, contents.optimizer,
                                         contents.optimizer_counters, manifest, written));
  }
  const std::string text = manifest.dump(2) + "\n";
  NORMLAB_RETURN_IF_ERROR(common::WriteFileSynced((temporary / kManifest).string(), text));
  NORMLAB_RETURN_IF_ERROR(common::SyncFolder(temporary.string()));
  written.bytes += static_cast<int64_t>(text.size());
  written.manifest_sha256 = common::Sha256Hex(text);
  return written;
}

// A file whose size and checksum are those of the manifest; else an error that names the damaged
// tensor where one can be told.
absl::StatusOr<std::string> ReadVerified(const std::string& folder,
                                         const char* file,
                                         const Json& manifest,
                                         const std::vector<MutableTensor>& tensors,
                                         const std::vector<MutableCounter>& counters) {
  const Json& entry = manifest["files"].value(file, Json());
  if (!entry.is_object() || !entry.contains("sha256") || !entry["sha256"].is_string()) {
    return Damaged(folder, absl::StrCat("its manifest does not mention ", file));
  }
  auto bytes = common::ReadFile(absl::StrCat(folder, "/", file), kMaxFileBytes);
  if (!bytes.ok()) {
    return Damaged(folder, bytes.status().message());
  }
  if (common::Sha256Hex(*bytes) == entry["sha256"].get<std::string>()) {
    return bytes;
  }
  const Json checksums = entry.value("tensors", Json());
  if (DecodeSafetensors(*bytes, file, tensors, counters).ok()) {
    const auto differs = [&checksums](const std::string& name, absl::string_view values) {
      const bool listed = checksums.is_object() && checksums.contains(name);
      return !listed || checksums[name] != common::Sha256Hex(values);
    };
    const auto damaged = [&](const std::string& name) {
      return Damaged(folder, absl::StrCat("tensor \"", name, "\" of ", file, " is damaged"));
    };
    for (const MutableTensor& tensor : tensors) {
      if (differs(tensor.name, AsBytes(tensor.values))) {
        return damaged(tensor.name);
      }
    }
    for (const MutableCounter& counter : counters) {
      if (differs(counter.name, AsBytes(*counter.value))) {
        return damaged(counter.name);
      }
    }
  }
  return Damaged(folder, absl::StrCat(file, " is damaged: its checksum differs"));
}

// Its own function: the estimate of a job's memory has room for one file at a time.
absl::Status LoadTensors(const std::string& folder,
                         const char* file,
                         const Json& manifest,
                         const std::vector<MutableTensor>& tensors,
                         const std::vector<MutableCounter>& counters) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string bytes,
                           ReadVerified(folder, file, manifest, tensors, counters));
  return DecodeSafetensors(bytes, absl::StrCat(folder, "/", file), tensors, counters);
}

absl::StatusOr<Json> ReadManifest(const std::string& folder) {
  const auto text = common::ReadFile(absl::StrCat(folder, "/", kManifest), kMaxManifestBytes);
  if (!text.ok()) {
    return absl::IsNotFound(text.status())
               ? absl::NotFoundError(absl::StrCat("no checkpoint in ", folder))
               : text.status();
  }
  Json manifest = Json::parse(*text, nullptr, /*exceptions=*/false);
  if (!manifest.is_object() || manifest.value("format", Json()) != kFormat ||
      !manifest.contains("step") || !manifest["step"].is_number_unsigned() ||
      !manifest.contains("files") || !manifest["files"].is_object()) {
    return Damaged(folder, "its manifest is not one of a checkpoint");
  }
  if (manifest.value("version", Json()) != kVersion) {
    return Damaged(folder,
                   absl::StrCat("it has format version ", manifest.value("version", Json()).dump(),
                                ", but this program reads ", kVersion));
  }
  return manifest;
}

}  // namespace

std::string CheckpointName(int64_t step) {
  return absl::StrFormat("%s%09d", kPrefix, step);
}

absl::StatusOr<WrittenCheckpoint> WriteCheckpoint(const std::string& parent,
                                                  const std::string& name,
                                                  const CheckpointContents& contents) {
  const fs::path final_folder = fs::path(parent) / name;
  const fs::path temporary = fs::path(parent) / absl::StrCat(name, kTemporarySuffix);
  std::error_code error;
  fs::remove_all(temporary, error);  // left by an interrupted write
  fs::create_directories(temporary, error);
  if (error) {
    return FileSystemError(error, absl::StrCat("cannot create folder ", temporary.string()));
  }
  auto written = WriteFolder(temporary, contents);
  if (written.ok()) {
    fs::remove_all(final_folder, error);
    fs::rename(temporary, final_folder, error);
    if (error) {
      written = FileSystemError(error, absl::StrCat("cannot rename to ", final_folder.string()));
    }
  }
  if (!written.ok()) {
    fs::remove_all(temporary, error);
    return written.status();
  }
  NORMLAB_RETURN_IF_ERROR(common::SyncFolder(parent));
  written->folder = final_folder.string();
  return written;
}

absl::StatusOr<LoadedCheckpoint> LoadCheckpoint(
    const std::string& folder,
    const std::string& spec_sha256,
    uint32_t seed,
    const std::vector<MutableTensor>& model,
    const std::vector<MutableTensor>& optimizer,
    const std::vector<MutableCounter>& optimizer_counters) {
  NORMLAB_ASSIGN_OR_RETURN(const Json manifest, ReadManifest(folder));
  if (manifest.value("spec_sha256", Json()) != spec_sha256 ||
      manifest.value("seed", Json()) != seed) {
    return absl::FailedPreconditionError(
        absl::StrCat("checkpoint ", folder,
                     " is of another specification or seed; resume only the run that wrote it"));
  }
  NORMLAB_RETURN_IF_ERROR(LoadTensors(folder, kModel, manifest, model, {}));
  if (!optimizer.empty() || !optimizer_counters.empty()) {
    NORMLAB_RETURN_IF_ERROR(
        LoadTensors(folder, kOptimizer, manifest, optimizer, optimizer_counters));
  }
  LoadedCheckpoint loaded;
  loaded.step = static_cast<int64_t>(manifest["step"].get<uint64_t>());
  if (const auto found = manifest.find(kInitialWeights);
      found != manifest.end() && found->is_string()) {
    loaded.initial_weights_sha256 = found->get<std::string>();
  }
  const Json latest = manifest.value(kLatestMetrics, Json::object());
  for (const auto& [series, value] : latest.items()) {
    if (value.is_number()) {
      loaded.latest_metrics[series] = value.get<double>();
    }
  }
  return loaded;
}

std::string DownloadName(const std::string& checkpoint, const std::string& file) {
  return file == kModel ? checkpoint + ".safetensors" : checkpoint + "-" + file;
}

std::map<std::string, std::string> ReadMeasuredChoices(const std::string& folder) {
  std::map<std::string, std::string> choices;
  const absl::StatusOr<Json> manifest = ReadManifest(folder);
  if (!manifest.ok()) {
    return choices;
  }
  const Json measured = manifest->value(kMeasuredChoices, Json::object());
  for (const auto& [key, choice] : measured.items()) {
    if (choice.is_string()) {
      choices[key] = choice.get<std::string>();
    }
  }
  return choices;
}

std::string ReadDataSha256(const std::string& folder) {
  const absl::StatusOr<Json> manifest = ReadManifest(folder);
  if (!manifest.ok()) {
    return "";
  }
  const auto found = manifest->find(kData);
  return found != manifest->end() && found->is_string() ? found->get<std::string>() : "";
}

void PruneCheckpoints(const std::string& parent, int keep, int64_t first_needed_step) {
  std::error_code error;
  std::map<int64_t, fs::path> checkpoints;
  std::vector<fs::path> leftovers;
  for (fs::directory_iterator entry(parent, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    absl::string_view digits = name;
    int64_t step = 0;
    if (!absl::ConsumePrefix(&digits, kPrefix)) {
      continue;
    }
    if (absl::EndsWith(name, kTemporarySuffix)) {
      leftovers.push_back(entry->path());
    } else if (absl::SimpleAtoi(digits, &step) && CheckpointName(step) == name) {
      checkpoints[step] = entry->path();
    }
  }
  int newer = static_cast<int>(checkpoints.size());
  for (const auto& [step, path] : checkpoints) {
    if (newer-- > keep && step < first_needed_step) {
      leftovers.push_back(path);
    }
  }
  for (const fs::path& path : leftovers) {
    fs::remove_all(path, error);
  }
}

}  // namespace normlab::engine
