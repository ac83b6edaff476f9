#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "common/unique_fd.h"
#include "engine/data/dataset_writer.h"
#include "engine/data/mapped_dataset.h"

namespace normlab::engine::testing {

// For tests only: makes IDX files and small data sets.

// The bytes of an IDX file of unsigned bytes: `dims` big-endian after the magic, then `values`.
std::string IdxBytes(const std::vector<uint32_t>& dims, const std::vector<uint8_t>& values);

// Gzip of `text`.
std::string Gzip(absl::string_view text);

// The bytes of a .npy file (format version 1): `descr` as "<f4", values as they are in memory.
std::string NpyBytes(absl::string_view descr,
                     const std::vector<int64_t>& dims,
                     absl::string_view values,
                     bool fortran_order = false);

struct ZipMember {
  std::string name;
  std::string contents;
  bool deflated = false;
  bool zip64 = false;  // sizes and offset in the 64-bit extra field
};

// A zip file of these members, without timestamps.
std::string ZipBytes(const std::vector<ZipMember>& members);

struct TensorBytes {
  std::string name;
  std::string dtype;  // "F32"
  std::vector<int64_t> dims;
  std::string values;
};

std::string SafetensorsBytes(const std::vector<TensorBytes>& tensors);

// The values as they are in memory.
template <typename T>
std::string Raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// Records of a CIFAR file; a coarse label (the fine one over 5) goes before when `coarse`.
std::string CifarBytes(const DecodedPart& part, bool coarse);

// Every proper prefix of `contents` and `flips` copies with one to three changed bytes (positions and
// values from `seed`), for tests that nothing believes a file.
std::vector<std::string> Truncations(const std::string& contents);
std::vector<std::string> Mutations(const std::string& contents, int flips, uint32_t seed);

// An open file with these contents that is on no disk: thousands of them cost little.
common::UniqueFd InMemoryFile(const std::string& contents);

// Writes a file; ends the test process when it cannot.
void WriteOrDie(const std::string& path, absl::string_view contents);

// A learnable set: every class is a smooth pattern of its own, plus noise from `seed`.
DecodedDataset MakePatterns(const DatasetShape& shape, uint32_t seed);

// The four IDX files of a 28x28 set in `folder` (created), with suffix ".gz" when `gzip`.
void WriteIdxFolder(const DecodedDataset& data, const std::string& folder, bool gzip);

}  // namespace normlab::engine::testing
