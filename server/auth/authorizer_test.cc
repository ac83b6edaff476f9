#include "server/auth/authorizer.h"

#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <set>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "server/auth/method_rules.h"
#include "server/domain/access_errors.h"
#include "server/domain/errors.h"

#include "normlab/v1/experiments.pb.h"
#include "normlab/v1/normalization.pb.h"
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

class CountingObserver final : public Observer {
 public:
  void OnCallRefused(absl::StatusCode code) override { codes.insert(code); }
  std::multiset<absl::StatusCode> codes;
};

class AuthorizerTest : public ::testing::Test {
 protected:
  AuthorizerTest() {
    std::string pattern = absl::StrCat(::testing::TempDir(), "/authorizer.XXXXXX");
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    std::string text;
    for (const auto& [name, role, owner] : {std::tuple{"vera", "viewer", "vision"},
                                            {"sam", "submitter", "vision"},
                                            {"ada", "admin", "ops"},
                                            {"lea", "submitter", "language"}}) {
      absl::StrAppend(&text, "{\"name\":\"", name, "\",\"role\":\"", role, "\",\"owner\":\"", owner,
                      "\",\"sha256\":\"", common::Sha256Hex(absl::StrCat("token-", name)), "\"}\n");
    }
    EXPECT_TRUE(common::WriteFileAtomically(folder_ + "/tokens", text, 0600).ok());
  }
  ~AuthorizerTest() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Authorizer> Make(AccessLimits limits = {}) {
    auto tokens = TokenStore::Open({.path = folder_ + "/tokens"});
    EXPECT_TRUE(tokens.ok()) << tokens.status();
    return std::make_unique<Authorizer>(*std::move(tokens), limits, observer_, clock_);
  }
  static std::string Outcome(Authorizer& authorizer,
                             absl::string_view method,
                             absl::string_view authorization) {
    const auto caller = authorizer.Authorize(method, authorization, "ipv4:192.0.2.1:5");
    return caller.ok() ? caller->name : ReasonOf(caller.status());
  }

  std::string folder_;
  common::FakeClock clock_;
  CountingObserver observer_;
};

TEST_F(AuthorizerTest, OnlyAKnownBearerGetsIn) {
  const auto authorizer = Make();
  EXPECT_EQ(Outcome(*authorizer, "GetJob", "Bearer token-vera"), "vera");
  EXPECT_EQ(Outcome(*authorizer, "GetJob", "bearer token-vera"), "vera");
  EXPECT_EQ(Outcome(*authorizer, "GetJob", ""), reason::kTokenMissing);
  for (const char* wrong : {"Bearer", "Bearer ", "Bearer x", "token-vera", "Basic token-vera",
                            "Bearer  token-vera", "Bearer token-vera "}) {
    EXPECT_EQ(Outcome(*authorizer, "GetJob", wrong), reason::kTokenUnknown) << wrong;
  }
  EXPECT_EQ(Outcome(*authorizer, "GetJob", "Bearer " + std::string(100'000, 'x')),
            reason::kTokenUnknown);
  EXPECT_EQ(observer_.codes.count(absl::StatusCode::kUnauthenticated), 9u);
}

TEST_F(AuthorizerTest, RolesAreCheckedAndWhatHasNoRuleIsForNobody) {
  const auto authorizer = Make();
  EXPECT_EQ(Outcome(*authorizer, "CreateJob", "Bearer token-vera"), reason::kRoleTooLow);
  EXPECT_EQ(Outcome(*authorizer, "CreateJob", "Bearer token-sam"), "sam");
  EXPECT_EQ(Outcome(*authorizer, "CreateJob", "Bearer token-ada"), "ada");
  EXPECT_EQ(Outcome(*authorizer, "FormatDisk", "Bearer token-ada"), reason::kRoleTooLow);
  // Without a token one does not even learn what there is.
  EXPECT_EQ(Outcome(*authorizer, "FormatDisk", ""), reason::kTokenMissing);
}

TEST_F(AuthorizerTest, EveryPublicMethodHasOneRule) {
  std::multiset<std::string> served;
  for (const google::protobuf::FileDescriptor* file :
       {v1::CreateJobRequest::descriptor()->file(), v1::NormalizeRequest::descriptor()->file(),
        v1::CreateExperimentRequest::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      for (int j = 0; j < file->service(i)->method_count(); ++j) {
        served.insert(file->service(i)->method(j)->name());
      }
    }
  }
  std::multiset<std::string> ruled;
  for (const MethodRule& rule : MethodRules()) {
    ruled.insert(rule.method);
    EXPECT_NE(rule.least_role, v1::Caller::ROLE_UNSPECIFIED) << rule.method;
    EXPECT_TRUE(!rule.changes || rule.least_role >= v1::Caller::SUBMITTER) << rule.method;
  }
  EXPECT_EQ(served, ruled);
}

TEST_F(AuthorizerTest, AnOwnerThatCallsTooOftenIsToldWhenToComeBackAndOthersAreNot) {
  const auto authorizer = Make({.requests_per_second = 10});
  for (int i = 0; i < 20; ++i) {  // two seconds' worth at once
    // Both tokens are of one owner.
    ASSERT_EQ(Outcome(*authorizer, "GetJob", i % 2 == 0 ? "Bearer token-vera" : "Bearer token-sam"),
              i % 2 == 0 ? "vera" : "sam")
        << i;
  }
  const auto refused = authorizer->Authorize("GetJob", "Bearer token-vera", "peer").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  const auto retry = GetDetail<google::rpc::RetryInfo>(refused);
  ASSERT_TRUE(retry.has_value());
  EXPECT_EQ(retry->retry_delay().seconds(), 0);
  EXPECT_EQ(retry->retry_delay().nanos(), 100'000'000);
  EXPECT_EQ(Outcome(*authorizer, "GetJob", "Bearer token-lea"), "lea");
  clock_.Advance(absl::Milliseconds(99));
  EXPECT_EQ(Outcome(*authorizer, "GetJob", "Bearer token-vera"), reason::kRateLimited);
  clock_.Advance(absl::Milliseconds(2));
  EXPECT_EQ(Outcome(*authorizer, "GetJob", "Bearer token-vera"), "vera");
  EXPECT_EQ(Outcome(*authorizer, "GetJob", "Bearer token-vera"), reason::kRateLimited);
  clock_.Advance(absl::Hours(1));  // saves up no more than the burst
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(Outcome(*authorizer, "GetJob", "Bearer token-sam"), "sam");
  }
  EXPECT_EQ(Outcome(*authorizer, "GetJob", "Bearer token-sam"), reason::kRateLimited);
}

TEST_F(AuthorizerTest, StreamsOfAnOwnerAreCounted) {
  const auto authorizer = Make({.streams_per_owner = 2});
  const Caller vera{.owner = "vision", .name = "vera", .role = v1::Caller::VIEWER};
  const Caller sam{.owner = "vision", .name = "sam", .role = v1::Caller::SUBMITTER};
  const Caller lea{.owner = "language", .name = "lea", .role = v1::Caller::SUBMITTER};
  auto first = authorizer->OpenStream(vera);
  auto second = authorizer->OpenStream(sam);
  ASSERT_TRUE(first.ok() && second.ok());
  const absl::Status third = authorizer->OpenStream(vera).status();
  EXPECT_EQ(ReasonOf(third), reason::kTooManyStreams);
  EXPECT_TRUE(GetDetail<google::rpc::RetryInfo>(third).has_value());
  EXPECT_TRUE(authorizer->OpenStream(lea).ok());
  {
    // Moving a lease does not give it back twice.
    const Authorizer::StreamLease moved = *std::move(second);
    EXPECT_FALSE(authorizer->OpenStream(vera).ok());
  }
  EXPECT_TRUE(authorizer->OpenStream(vera).ok());
}

// What is written to the log while it lives.
class LogCapture {
 public:
  LogCapture() : before_(spdlog::default_logger()) {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_st>(text_)));
  }
  ~LogCapture() { spdlog::set_default_logger(before_); }
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;
  int Count(const std::string& part) const {
    const std::string text = text_.str();
    int count = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
      ++count;
    }
    return count;
  }

 private:
  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> before_;
};

TEST_F(AuthorizerTest, RefusedReadsAreInTheAuditLogWithinBounds) {
  const auto authorizer = Make();
  const Caller vera{.owner = "vision", .name = "vera", .role = v1::Caller::VIEWER};
  const Caller lea{.owner = "language", .name = "lea", .role = v1::Caller::SUBMITTER};
  const LogCapture log;
  authorizer->AuditRefused(vera, "GetJob", "jobs/other", "ipv4:192.0.2.1:5",
                           JobNotFound("jobs/other"));
  EXPECT_EQ(log.Count("audit: who=vera owner=vision role=viewer method=GetJob "
                      "resource=\"jobs/other\" peer=\"ipv4:192.0.2.1:5\" outcome=NOT_FOUND "
                      "reason=JOB_NOT_FOUND"),
            1);
  // Somebody who tries names does not fill the disk, nor take others' lines.
  for (int i = 0; i < 500; ++i) {
    authorizer->AuditRefused(vera, "GetJob", absl::StrCat("jobs/", i), "peer",
                             JobNotFound("jobs/other"));
  }
  EXPECT_EQ(log.Count("who=vera"), 50);
  authorizer->AuditRefused(lea, "GetJob", "jobs/other", "peer", JobNotFound("jobs/other"));
  EXPECT_EQ(log.Count("who=lea"), 1);
  EXPECT_EQ(log.Count("451 more refused calls are not shown"), 1);
  EXPECT_EQ(observer_.codes.size(), 0u);  // those calls were authorized
}

TEST_F(AuthorizerTest, WithoutTokensEverybodyIsTheLocalAdmin) {
  const auto caller = Authorizer::AllowAll().Authorize("CreateJob", "", "peer");
  ASSERT_TRUE(caller.ok());
  EXPECT_EQ(caller->owner, "local");
  EXPECT_EQ(caller->name, "");
  EXPECT_TRUE(caller->sees("anybody"));
}

}  // namespace
}  // namespace normlab::server
