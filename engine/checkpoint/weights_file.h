#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "engine/checkpoint/safetensors_header.h"
#include "engine/data/data_files.h"

namespace normlab::engine {

// An open safetensors file, ours or another program's, whose header has been read. Owns its
// descriptor. Thread-compatible.
class WeightsFile {
 public:
  // Opens `path`, which is relative to one of `data_roots`, tried in order, or absolute and below
  // one of them; nothing outside of them is ever opened. Only the header is read.
  //
  // The message of an error is the end of a sentence that begins with the field's name
  // ("initial_weights.path is ..."), and says what to do. NOT_FOUND: there is no such file, with
  // every place looked at; INVALID_ARGUMENT: it is not a safetensors file, or a damaged one.
  static absl::StatusOr<WeightsFile> Open(const std::string& path,
                                          absl::Span<const std::string> data_roots);

  const std::string& path() const { return file_.path; }  // where it was found
  const std::map<std::string, SafetensorsEntry>& entries() const { return entries_; }

  // Reads `to.size()` bytes of a tensor, from byte `offset` of it on. INTERNAL: it cannot be read.
  absl::Status Read(const SafetensorsEntry& entry, int64_t offset, absl::Span<char> to) const;
  // SHA-256 of the whole file, in hexadecimal. INTERNAL: it cannot be read; ABORTED: it changed
  // since it was opened.
  absl::StatusOr<std::string> Sha256() const;

 private:
  DataFile file_;
  std::map<std::string, SafetensorsEntry> entries_;
  int64_t data_offset_ = 0;
};

}  // namespace normlab::engine
