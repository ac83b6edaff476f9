#include "server/domain/errors.h"

#include "gtest/gtest.h"

#include "common/ids.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

TEST(ErrorsTest, InvalidSpecCarriesEveryViolationAndTheReason) {
  const absl::Status status =
      InvalidSpec({{"spec.batch_size", "is 0; must be at least 1"}, {"spec.data", "is missing"}});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReasonOf(status), reason::kInvalidSpec);
  const auto bad = GetDetail<google::rpc::BadRequest>(status);
  ASSERT_TRUE(bad.has_value());
  ASSERT_EQ(bad->field_violations_size(), 2);
  EXPECT_EQ(bad->field_violations(1).field(), "spec.data");
  EXPECT_NE(status.message().find("spec.batch_size: is 0"), absl::string_view::npos);
}

TEST(ErrorsTest, RetryInfoKeepsFractionsOfASecond) {
  const auto retry = GetDetail<google::rpc::RetryInfo>(Overloaded(absl::Milliseconds(1250)));
  ASSERT_TRUE(retry.has_value());
  EXPECT_EQ(retry->retry_delay().seconds(), 1);
  EXPECT_EQ(retry->retry_delay().nanos(), 250'000'000);
}

TEST(ErrorsTest, PayloadsHaveTheStandardTypeUrl) {
  EXPECT_TRUE(
      SequenceOutOfRange(7, 3).GetPayload("type.googleapis.com/google.rpc.ErrorInfo").has_value());
  const auto info = GetDetail<google::rpc::ErrorInfo>(SequenceOutOfRange(7, 3));
  EXPECT_EQ(info->domain(), "normlab");
  EXPECT_EQ(info->metadata().at("last_sequence"), "3");
}

TEST(NamesTest, OnlyIdsOfOursPass) {
  const std::string id = common::NewId(absl::FromUnixSeconds(1'700'000'000));
  const auto parsed = ParseJobName(JobName(id));
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(*parsed, id);
  for (const std::string& bad :
       std::vector<std::string>{"", id, "jobs/", "jobs/../../etc/passwd12345", "jobs/" + id + "/",
                                "experiments/" + id, "jobs/" + std::string(5000, '\x01')}) {
    const auto status = ParseJobName(bad).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.substr(0, 50);
    EXPECT_LT(status.message().size(), 700u);
  }
}

}  // namespace
}  // namespace normlab::server
