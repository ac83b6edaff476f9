#pragma once

#include <cstdint>
#include <string>

#include "client/lib/record_decoder.h"

namespace normlab::client {

// One record as one line of JSON (no line break), as `watch --output json` prints it:
//   {"sequence":"12","metrics":{"step":"9","elapsedUs":"8123","values":{"train/loss":0.25}}}
//   {"sequence":"13","state":{...}}   with protobuf's JSON of StateChange
//   {"sequence":"14","log":{...}}     with protobuf's JSON of LogLine
// 64-bit integers are strings, as protobuf has them; values are numbers that read back exactly, or
// "NaN", "Infinity", "-Infinity". All functions are thread-safe.
std::string MetricsToJson(const MetricRecord& record);
std::string StateToJson(int64_t sequence, const normlab::v1::StateChange& change);
std::string LogToJson(int64_t sequence, const normlab::v1::LogLine& line);

}  // namespace normlab::client
