#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "client/export/export_file.h"
#include "client/lib/record_decoder.h"

namespace normlab::client {

// A TensorBoard event file: TFRecord framing (uint64 length, its masked CRC-32C, the bytes, theirs;
// little-endian) around tensorflow.Event messages, of which the first names the version. Scalars
// are Summary.Value.simple_value, which is float32: the only place where numbers are rounded.
// Not thread-safe; movable.
class EventFile {
 public:
  // `created` is the wall time of the first event.
  static absl::StatusOr<EventFile> Create(const std::string& path, absl::Time created);

  // All values of one step as one event.
  absl::Status AddScalars(absl::Time wall_time, const MetricRecord& record);

  absl::Status Finish() { return file_.Finish(); }

 private:
  explicit EventFile(ExportFile file) : file_(std::move(file)) {}
  absl::Status AddRecord(absl::string_view bytes);

  ExportFile file_;
  std::string event_;    // reused
  std::string summary_;  // reused
};

}  // namespace normlab::client
