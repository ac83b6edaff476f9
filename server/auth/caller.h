#pragma once

#include <string>

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// Owner of every job, and of whoever calls, while the server runs with --auth=none.
inline constexpr char kLocalOwner[] = "local";

// Who makes a call, as their token says. A value.
struct Caller {
  std::string owner;
  std::string name;  // of the token; empty with --auth=none
  v1::Caller::Role role = v1::Caller::ADMIN;
  // Of the token that they came with, 32 bytes; empty with --auth=none. Names may be given to new
  // tokens: this tells whether the very same one is still in force.
  std::string token_sha256 = {};

  // Whether jobs of every owner are theirs to see and change; else only those of `owner`, and all
  // others do not exist for them.
  bool sees_all() const { return role == v1::Caller::ADMIN; }
  bool sees(const std::string& job_owner) const { return sees_all() || job_owner == owner; }
};

}  // namespace normlab::server
