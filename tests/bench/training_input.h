#pragma once

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"

#include "engine/data/mapped_dataset.h"

#include "normlab/v1/spec.pb.h"

// What benchmarks of training runs share.
namespace normlab::engine {

inline constexpr char kDataRoot[] = "/usr/share/datasets";

// The resolved spec of this text format. INTERNAL: it is none.
absl::StatusOr<v1::JobSpec> ResolvedSpec(const std::string& text);

// Its data, decoded into the folder. INTERNAL, with the reason, when they cannot be read.
absl::StatusOr<MappedDataset> OpenData(const v1::JobSpec& resolved,
                                       const std::filesystem::path& folder);

}  // namespace normlab::engine
