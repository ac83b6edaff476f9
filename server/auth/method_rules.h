#pragma once

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// Who may call a method. Whatever the role, a job of another owner does not exist for anybody but
// an admin.
struct MethodRule {
  const char* method;  // name without service: names are unique among the public services
  v1::Caller::Role least_role;
  bool changes;  // writes: every call is in the audit log, also one that was granted
};

// Every method of the public services. docs/security.md has the same table; a test compares both
// with the contract, so that a new method without a rule, which nobody may call, is noticed.
absl::Span<const MethodRule> MethodRules();

// Null: there is no such method, so nobody may call it.
const MethodRule* FindMethodRule(absl::string_view method);

// "viewer", "submitter", "admin"; as the tokens file and messages have it.
const char* RoleName(v1::Caller::Role role);
// ROLE_UNSPECIFIED: none of them.
v1::Caller::Role ParseRole(absl::string_view name);

}  // namespace normlab::server
