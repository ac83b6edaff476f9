#include "client/export/event_file.h"

#include <bit>
#include <utility>

#include "client/export/crc32c.h"
#include "common/status_macros.h"

namespace normlab::client {
namespace {

// Fields of tensorflow/core/util/event.proto and framework/summary.proto.
constexpr uint32_t kEventWallTime = 1;     // double
constexpr uint32_t kEventStep = 2;         // int64
constexpr uint32_t kEventFileVersion = 3;  // string
constexpr uint32_t kEventSummary = 5;      // Summary
constexpr uint32_t kSummaryValue = 1;      // repeated Summary.Value
constexpr uint32_t kValueTag = 1;          // string
constexpr uint32_t kValueSimple = 2;       // float
constexpr char kFileVersion[] = "brain.Event:2";

// Protobuf's wire types.
constexpr uint32_t kVarint = 0;
constexpr uint32_t kFixed64 = 1;
constexpr uint32_t kBytes = 2;
constexpr uint32_t kFixed32 = 5;

void AppendVarint(uint64_t value, std::string& out) {
  while (value >= 0x80U) {
    out.push_back(static_cast<char>(value | 0x80U));
    value >>= 7U;
  }
  out.push_back(static_cast<char>(value));
}

void AppendKey(uint32_t field, uint32_t type, std::string& out) {
  AppendVarint(field << 3U | type, out);
}

// The low `bytes` bytes, the lowest first.
void AppendFixed(uint64_t value, int bytes, std::string& out) {
  for (int i = 0; i < bytes; ++i) {
    out.push_back(static_cast<char>(value >> (8U * static_cast<uint32_t>(i))));
  }
}

void AppendBytes(uint32_t field, absl::string_view bytes, std::string& out) {
  AppendKey(field, kBytes, out);
  AppendVarint(bytes.size(), out);
  out.append(bytes.data(), bytes.size());
}

void StartEvent(absl::Time wall_time, int64_t step, std::string& out) {
  const double seconds = absl::ToDoubleSeconds(wall_time - absl::UnixEpoch());
  AppendKey(kEventWallTime, kFixed64, out);
  AppendFixed(std::bit_cast<uint64_t>(seconds), 8, out);
  if (step != 0) {
    AppendKey(kEventStep, kVarint, out);
    AppendVarint(static_cast<uint64_t>(step), out);
  }
}

}  // namespace

absl::StatusOr<EventFile> EventFile::Create(const std::string& path, absl::Time created) {
  NORMLAB_ASSIGN_OR_RETURN(ExportFile file, ExportFile::Create(path));
  EventFile events(std::move(file));
  StartEvent(created, 0, events.event_);
  AppendBytes(kEventFileVersion, kFileVersion, events.event_);
  NORMLAB_RETURN_IF_ERROR(events.AddRecord(events.event_));
  return events;
}

absl::Status EventFile::AddScalars(absl::Time wall_time, const MetricRecord& record) {
  summary_.clear();
  std::string value;
  for (size_t i = 0; i < record.series.size(); ++i) {
    value.clear();
    AppendBytes(kValueTag, *record.series[i], value);
    AppendKey(kValueSimple, kFixed32, value);
    AppendFixed(std::bit_cast<uint32_t>(static_cast<float>(record.values[i])), 4, value);
    AppendBytes(kSummaryValue, value, summary_);
  }
  event_.clear();
  StartEvent(wall_time, record.step, event_);
  AppendBytes(kEventSummary, summary_, event_);
  return AddRecord(event_);
}

absl::Status EventFile::AddRecord(absl::string_view bytes) {
  std::string header;
  AppendFixed(bytes.size(), 8, header);
  AppendFixed(MaskedCrc32c(header), 4, header);
  std::string footer;
  AppendFixed(MaskedCrc32c(bytes), 4, footer);
  NORMLAB_RETURN_IF_ERROR(file_.Write(header));
  NORMLAB_RETURN_IF_ERROR(file_.Write(bytes));
  return file_.Write(footer);
}

}  // namespace normlab::client
