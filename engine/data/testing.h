#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "engine/data/dataset_writer.h"
#include "engine/data/mapped_dataset.h"

namespace normlab::engine::testing {

// For tests only: makes IDX files and small data sets.

// The bytes of an IDX file of unsigned bytes: `dims` big-endian after the magic, then `values`.
std::string IdxBytes(const std::vector<uint32_t>& dims, const std::vector<uint8_t>& values);

// Gzip of `text`.
std::string Gzip(absl::string_view text);

// Writes a file; ends the test process when it cannot.
void WriteOrDie(const std::string& path, absl::string_view contents);

// A learnable set: every class is a smooth pattern of its own, plus noise from `seed`.
DecodedDataset MakePatterns(const DatasetShape& shape, uint32_t seed);

// The four IDX files of a 28x28 set in `folder` (created), with suffix ".gz" when `gzip`.
void WriteIdxFolder(const DecodedDataset& data, const std::string& folder, bool gzip);

}  // namespace normlab::engine::testing
