#include "client/cli/record_json.h"

#include "absl/strings/str_cat.h"

#include "client/cli/context.h"
#include "client/lib/number_format.h"

namespace normlab::client {

std::string MetricsToJson(const MetricRecord& record) {
  std::string json = absl::StrCat("{\"sequence\":\"", record.sequence,
                                  "\",\"metrics\":{\"step\":\"", record.step, "\"");
  if (record.elapsed_us > 0) {
    absl::StrAppend(&json, ",\"elapsedUs\":\"", record.elapsed_us, "\"");
  }
  absl::StrAppend(&json, ",\"values\":{");
  for (size_t i = 0; i < record.series.size(); ++i) {
    absl::StrAppend(&json, i == 0 ? "" : ",", FormatJsonString(*record.series[i]), ":",
                    FormatJsonDouble(record.values[i]));
  }
  absl::StrAppend(&json, "}}}");
  return json;
}

std::string StateToJson(int64_t sequence, const normlab::v1::StateChange& change) {
  return absl::StrCat("{\"sequence\":\"", sequence, "\",\"state\":", ToJson(change, false), "}");
}

std::string LogToJson(int64_t sequence, const normlab::v1::LogLine& line) {
  return absl::StrCat("{\"sequence\":\"", sequence, "\",\"log\":", ToJson(line, false), "}");
}

}  // namespace normlab::client
