#include "server/api/caller.h"

#include <string>

#include <gtest/gtest.h>

#include "server/api/testing/api_test.h"
#include "server/domain/errors.h"

namespace normlab::server {
namespace {

class CallerTest : public ApiTest {
 protected:
  // Whoever owns nothing.
  const Caller stranger_{.owner = "stranger", .name = "eve", .role = v1::Caller::SUBMITTER};
  const Caller admin_{.owner = "ops", .name = "ada", .role = v1::Caller::ADMIN};
};

TEST_F(CallerTest, AJobExistsForItsOwnerAndAdmins) {
  Serve();
  const v1::Job job = MustCreate();
  const Caller owner{.owner = job.owner(), .name = "own", .role = v1::Caller::VIEWER};
  for (const std::string& name : {job.name(), job.name() + "/artifacts/1", job.name() + "/x"}) {
    EXPECT_TRUE(CheckOwner(*backend_, owner, name).ok());
    EXPECT_TRUE(CheckOwner(*backend_, admin_, name).ok());
    EXPECT_EQ(ReasonOf(CheckOwner(*backend_, stranger_, name)), reason::kJobNotFound) << name;
  }
}

TEST_F(CallerTest, WhatHasNoRuleIsClosed) {
  Serve();
  MustCreate();
  EXPECT_TRUE(CheckOwner(*backend_, stranger_, "").ok());  // a call that is about nothing
  for (const char* name : {"jobs", "jobs/", "jobs/../jobs", "jobs/x", "secrets/1", "job/1",
                           "/jobs/00000000000000000000", "operations/00000000000000000000",
                           "Jobs/00000000000000000000", "projects/p/jobs/00000000000000000000"}) {
    EXPECT_FALSE(CheckOwner(*backend_, stranger_, name).ok()) << name;
    EXPECT_TRUE(CheckOwner(*backend_, admin_, name).ok()) << name;
  }
  EXPECT_EQ(CheckOwner(*backend_, stranger_, "secrets/1").code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(CheckOwner(*backend_, stranger_, "experiments/00000000000000000000").ok());
}

}  // namespace
}  // namespace normlab::server
