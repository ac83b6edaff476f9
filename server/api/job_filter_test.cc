#include "server/api/job_filter.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(JobFilterTest, EmptyRestrictsNothing) {
  for (const char* text : {"", "  \t"}) {
    const auto filter = ParseJobFilter(text);
    ASSERT_TRUE(filter.ok()) << filter.status();
    EXPECT_FALSE(filter->state.has_value());
    EXPECT_FALSE(filter->owner.has_value());
    EXPECT_TRUE(filter->labels.empty());
    EXPECT_FALSE(filter->created_at_or_after.has_value());
    EXPECT_FALSE(filter->created_before.has_value());
  }
}

TEST(JobFilterTest, ReadsEveryKindOfTerm) {
  const auto filter = ParseJobFilter(
      "state = RUNNING AND labels.study=explosion AND owner=local AND labels.x-y=\"a \\\"b\\\" "
      "AND\" AND "
      "labels.e=\"\" AND create_time>=2026-01-31T00:00:00Z AND "
      "create_time<2026-02-01T01:00:00+01:00");
  ASSERT_TRUE(filter.ok()) << filter.status();
  EXPECT_EQ(filter->state, v1::Job::RUNNING);
  EXPECT_EQ(filter->owner, "local");
  EXPECT_THAT(filter->labels,
              ElementsAre(Pair("study", "explosion"), Pair("x-y", "a \"b\" AND"), Pair("e", "")));
  EXPECT_EQ(filter->created_at_or_after, absl::FromUnixSeconds(1769817600));
  EXPECT_EQ(filter->created_before, absl::FromUnixSeconds(1769817600 + 86400));
}

// Stored times are whole microseconds, so a strict bound is the next microsecond.
TEST(JobFilterTest, BoundsAreExact) {
  const absl::Time second = absl::FromUnixSeconds(1769817600);
  const auto strict =
      ParseJobFilter("create_time>2026-01-31T00:00:00Z AND create_time<=2026-01-31T00:00:00Z");
  ASSERT_TRUE(strict.ok()) << strict.status();
  EXPECT_EQ(strict->created_at_or_after, second + absl::Microseconds(1));
  EXPECT_EQ(strict->created_before, second + absl::Microseconds(1));
  const auto between = ParseJobFilter(
      "create_time>=2026-01-31T00:00:00.0000005Z AND create_time<2026-01-31T00:00:00.0000005Z");
  ASSERT_TRUE(between.ok()) << between.status();
  EXPECT_EQ(between->created_at_or_after, second + absl::Microseconds(1));
  EXPECT_EQ(between->created_before, second + absl::Microseconds(1));
  const auto tightest =
      ParseJobFilter("create_time>=2026-01-31T00:00:00Z AND create_time>=2026-01-31T00:00:07Z");
  ASSERT_TRUE(tightest.ok()) << tightest.status();
  EXPECT_EQ(tightest->created_at_or_after, second + absl::Seconds(7));
}

TEST(JobFilterTest, ADayIsItsBeginningInUtc) {
  const absl::Time day = absl::FromUnixSeconds(1769817600);
  const auto filter = ParseJobFilter("create_time>=2026-01-31 AND create_time<2026-02-01");
  ASSERT_TRUE(filter.ok()) << filter.status();
  EXPECT_EQ(filter->created_at_or_after, day);
  EXPECT_EQ(filter->created_before, day + absl::Hours(24));
  for (const char* bad :
       {"create_time>=2026-02-30", "create_time>=2026-01", "create_time<31.1.2026"}) {
    EXPECT_FALSE(ParseJobFilter(bad).ok()) << bad;
  }
}

struct BadFilter {
  const char* text;
  const char* expected;  // in the message: where, and what is allowed
};

class BadFilterTest : public ::testing::TestWithParam<BadFilter> {};

TEST_P(BadFilterTest, SaysWhereAndWhatIsAllowed) {
  const auto filter = ParseJobFilter(GetParam().text);
  ASSERT_EQ(filter.status().code(), absl::StatusCode::kInvalidArgument) << GetParam().text;
  EXPECT_THAT(std::string(filter.status().message()), HasSubstr(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(
    All,
    BadFilterTest,
    ::testing::Values(
        BadFilter{"state=WALKING",
                  "at character 7: there is no state \"WALKING\"; use one of QUEUED, STARTING"},
        BadFilter{"state=STATE_UNSPECIFIED", "use one of QUEUED"},
        BadFilter{"state=QUEUED OR state=RUNNING", "at character 14: expected AND"},
        BadFilter{"state=QUEUED AND", "at character 17: a term has to follow AND"},
        BadFilter{"AND", "at character 1: expected a term"},
        BadFilter{"colour=red", "at character 1: there is no field \"colour\""},
        BadFilter{"state>QUEUED", "at character 6: state can only be compared with =, not >"},
        BadFilter{"state==QUEUED", "not =="},
        BadFilter{"state!=QUEUED", "not !="},
        BadFilter{"create_time=2026-01-31T00:00:00Z", "can be compared with >=, >, < and <="},
        BadFilter{"create_time>yesterday", "at character 13: \"yesterday\" is not a time"},
        BadFilter{"labels.=x", "expected a key after labels."},
        BadFilter{"labels.a=", "expected a value"},
        BadFilter{"labels.a=\"b", "at character 10: this string has no end"},
        BadFilter{"labels.a=\"b\\n\"", "a backslash may only stand before"},
        BadFilter{"state=QUEUED AND state=RUNNING", "a job has only one state"},
        BadFilter{"owner=a AND owner=b", "a job has only one owner"}));

TEST(JobFilterTest, IsBounded) {
  EXPECT_FALSE(ParseJobFilter(std::string(100000, 'a')).ok());
  std::string many = "labels.a=b";
  for (int i = 0; i < 64; ++i) {
    many += " AND labels.a=b";
  }
  const auto filter = ParseJobFilter(many);
  EXPECT_THAT(std::string(filter.status().message()), HasSubstr("more than 64 terms"));
}

}  // namespace
}  // namespace normlab::server
