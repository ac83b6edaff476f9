// What arrives on streams, and how its numbers are written.
#include "client/lib/record_decoder.h"

#include <cmath>
#include <cstdlib>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

using testing::HasSubstr;

class IgnoringHandler : public RecordHandler {
 public:
  absl::Status OnMetrics(const MetricRecord& /*record*/) override { return absl::OkStatus(); }
  absl::Status OnState(int64_t /*sequence*/, const normlab::v1::StateChange& /*change*/) override {
    return absl::OkStatus();
  }
  absl::Status OnLog(int64_t /*sequence*/, const normlab::v1::LogLine& /*line*/) override {
    return absl::OkStatus();
  }
};

TEST(RecordDecoderTest, RefusesBrokenBatches) {
  IgnoringHandler recorder;
  normlab::v1::RecordBatch batch;
  batch.set_first_sequence(1);
  normlab::v1::MetricBlock& block = *batch.add_segments()->mutable_metrics();
  block.add_series(4);
  block.add_steps(0);
  block.add_values(1.5);
  EXPECT_THAT(std::string(RecordDecoder(0).Decode(batch, recorder).message()),
              HasSubstr("series 4 is used undefined"));
  batch.add_new_series()->set_id(4);
  block.add_values(2.5);
  EXPECT_TRUE(absl::IsInternal(RecordDecoder(0).Decode(batch, recorder)));
  block.add_steps(1);
  EXPECT_TRUE(RecordDecoder(0).Decode(batch, recorder).ok());
  EXPECT_TRUE(absl::IsInternal(RecordDecoder(1).Decode(batch, recorder)));
  RecordDecoder decoder(0);
  ASSERT_TRUE(decoder.Decode(batch, recorder).ok());
  EXPECT_EQ(decoder.last_sequence(), 2);
  normlab::v1::Heartbeat heartbeat;
  heartbeat.set_sequence(2);
  EXPECT_TRUE(decoder.Check(heartbeat).ok());
  heartbeat.set_sequence(3);
  EXPECT_TRUE(absl::IsInternal(decoder.Check(heartbeat)));
  normlab::v1::RecordBatch renamed;
  renamed.add_new_series()->set_id(4);
  renamed.mutable_new_series(0)->set_name("other");
  EXPECT_TRUE(absl::IsInternal(decoder.Decode(renamed, recorder)));
}

TEST(NumberFormatTest, DoublesReadBackExactly) {
  for (const double value : {0.1, 1.0 / 3, 1e300, 5e-324, -0.0, 123456789.0, 0.1 + 0.2}) {
    EXPECT_EQ(std::strtod(FormatDouble(value).c_str(), nullptr), value) << FormatDouble(value);
  }
  EXPECT_EQ(FormatDouble(0.1), "0.1");
  EXPECT_EQ(FormatJsonDouble(std::nan("")), "\"NaN\"");
  EXPECT_EQ(FormatJsonDouble(-INFINITY), "\"-Infinity\"");
  EXPECT_EQ(FormatSeconds(3725.4), "1:02:05");
  EXPECT_EQ(FormatSeconds(NAN), "?");
  EXPECT_EQ(FormatJsonString("a\"\n\xFF"), "\"a\\\"\\n\xEF\xBF\xBD\"");
}

}  // namespace
}  // namespace normlab::client
