#include "server/api/metrics_position.h"

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/sha256.h"
#include "server/domain/errors.h"

namespace normlab::server {
namespace {

// Of everything that decides which points a query answers, in which order.
std::string QueryHash(const v1::ReadMetricsRequest& query) {
  v1::ReadMetricsRequest rest = query;
  rest.clear_position();
  // No maps in it: equal requests have equal bytes.
  return common::Sha256Hex(rest.SerializeAsString()).substr(0, 16);
}

absl::Status Foreign() {
  return InvalidArgument("position",
                         "is not that of a message of this query; give the position of the last "
                         "message that arrived, with the same name, series, steps and max_points, "
                         "or leave it out to start anew");
}

}  // namespace

std::string EncodePosition(const MetricsPosition& position, const v1::ReadMetricsRequest& query) {
  return absl::WebSafeBase64Escape(absl::StrCat("1 ", position.begin, " ", position.end, " ",
                                                position.series, " ", position.step, " ",
                                                QueryHash(query)));
}

absl::StatusOr<MetricsPosition> DecodePosition(const v1::ReadMetricsRequest& query) {
  std::string text;
  if (!absl::WebSafeBase64Unescape(query.position(), &text)) {
    return Foreign();
  }
  const std::vector<std::string> parts = absl::StrSplit(text, ' ');
  MetricsPosition position;
  if (parts.size() != 6 || parts[0] != "1" || !absl::SimpleAtoi(parts[1], &position.begin) ||
      !absl::SimpleAtoi(parts[2], &position.end) || !absl::SimpleAtoi(parts[3], &position.series) ||
      !absl::SimpleAtoi(parts[4], &position.step) || parts[5] != QueryHash(query) ||
      position.begin < 0 || position.end < position.begin || position.series < 0) {
    return Foreign();
  }
  return position;
}

}  // namespace normlab::server
