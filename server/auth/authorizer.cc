#include "server/auth/authorizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "server/auth/method_rules.h"
#include "server/domain/access_errors.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

// At once, in seconds of the long run.
constexpr double kBurstSeconds = 2;
constexpr absl::Duration kStreamRetry = absl::Seconds(1);
constexpr size_t kMaxTokenBytes = 512;

// gRPC's metadata keys are lower case; the scheme's name is not sensitive to case (RFC 7235).
bool ConsumeBearer(absl::string_view& authorization) {
  constexpr absl::string_view kScheme = "bearer ";
  if (!absl::StartsWithIgnoreCase(authorization, kScheme)) {
    return false;
  }
  authorization.remove_prefix(kScheme.size());
  return !authorization.empty() && authorization.size() <= kMaxTokenBytes;
}

}  // namespace

Authorizer::Authorizer(std::unique_ptr<TokenStore> tokens,
                       AccessLimits limits,
                       Observer& observer,
                       const common::Clock& clock)
    : tokens_(std::move(tokens)),
      limits_(limits),
      observer_(&observer),
      clock_(&clock),
      calls_(limits.requests_per_second,
             std::max(limits.requests_per_second * kBurstSeconds, 1.0)) {}

Authorizer& Authorizer::AllowAll() {
  static auto& authorizer = *new Authorizer();
  return authorizer;
}

absl::StatusOr<Caller> Authorizer::Decide(absl::string_view method,
                                          absl::string_view authorization,
                                          Caller& known) {
  if (authorization.empty()) {
    return TokenMissing();
  }
  if (!ConsumeBearer(authorization)) {
    return TokenUnknown();
  }
  std::optional<Caller> caller = tokens_->Find(authorization);
  if (!caller.has_value()) {
    return TokenUnknown();
  }
  known = *caller;
  const MethodRule* rule = FindMethodRule(method);
  if (rule == nullptr) {
    return RoleTooLow(method, RoleName(caller->role), "no");
  }
  if (caller->role < rule->least_role) {
    return RoleTooLow(method, RoleName(caller->role), RoleName(rule->least_role));
  }
  if (const absl::Duration wait = calls_.Take(caller->owner, clock_->Monotonic());
      wait > absl::ZeroDuration()) {
    return RateLimited(calls_.rate(), wait);
  }
  return *std::move(caller);
}

absl::StatusOr<Caller> Authorizer::Authorize(absl::string_view method,
                                             absl::string_view authorization,
                                             absl::string_view peer) {
  if (tokens_ == nullptr) {
    return Caller{.owner = kLocalOwner, .name = "", .role = v1::Caller::ADMIN};
  }
  Caller known{.owner = "", .name = "", .role = v1::Caller::ROLE_UNSPECIFIED};
  absl::StatusOr<Caller> caller = Decide(method, authorization, known);
  if (!caller.ok()) {
    observer_->OnCallRefused(caller.status().code());
    AuditRefused(known, method, "", peer, caller.status());
  }
  return caller;
}

void Authorizer::AuditRefused(const Caller& caller,
                              absl::string_view method,
                              absl::string_view resource,
                              absl::string_view peer,
                              const absl::Status& why) {
  if (tokens_ == nullptr) {
    return;
  }
  if (refusal_lines_.Take(caller.name, clock_->Monotonic()) > absl::ZeroDuration()) {
    absl::MutexLock lock(&mu_);
    ++unlogged_refusals_;
    return;
  }
  int64_t unlogged = 0;
  {
    absl::MutexLock lock(&mu_);
    unlogged = std::exchange(unlogged_refusals_, 0);
  }
  if (unlogged > 0) {
    spdlog::warn("audit: {} more refused calls are not shown here", unlogged);
  }
  Audit(caller, method, resource, peer, why);
}

absl::StatusOr<Authorizer::StreamLease> Authorizer::OpenStream(const Caller& caller) {
  if (tokens_ == nullptr || limits_.streams_per_owner <= 0) {
    return StreamLease();
  }
  absl::MutexLock lock(&mu_);
  int& open = streams_[caller.owner];
  if (open >= limits_.streams_per_owner) {
    observer_->OnCallRefused(absl::StatusCode::kResourceExhausted);
    return TooManyStreams(limits_.streams_per_owner, kStreamRetry);
  }
  ++open;
  return StreamLease(this, caller.owner);
}

void Authorizer::CloseStream(const std::string& owner) {
  absl::MutexLock lock(&mu_);
  const auto found = streams_.find(owner);
  if (found != streams_.end() && --found->second == 0) {
    streams_.erase(found);
  }
}

absl::Status Authorizer::StillAuthorized(const Caller& caller, int64_t& seen) const {
  if (tokens_ == nullptr) {
    return absl::OkStatus();
  }
  const int64_t generation = tokens_->generation();
  if (generation == seen) {
    return absl::OkStatus();
  }
  if (!tokens_->StillValid(caller)) {
    return TokenUnknown();
  }
  seen = generation;
  return absl::OkStatus();
}

void Authorizer::Audit(const Caller& caller,
                       absl::string_view method,
                       absl::string_view resource,
                       absl::string_view peer,
                       const absl::Status& outcome) {
  if (tokens_ == nullptr) {
    return;  // there is nobody to tell apart; the log has the changes of jobs anyway
  }
  // Names and owners have no blanks or quotes: see ParseTokens. Everything from outside is quoted.
  spdlog::log(outcome.ok() ? spdlog::level::info : spdlog::level::warn,
              "audit: who={} owner={} role={} method={} resource={} peer={} outcome={}{}",
              caller.name.empty() ? "-" : caller.name, caller.owner.empty() ? "-" : caller.owner,
              RoleName(caller.role), std::string(method),
              resource.empty() ? "-" : QuotedForMessage(resource), QuotedForMessage(peer),
              absl::StatusCodeToString(outcome.code()),
              outcome.ok() ? "" : absl::StrCat(" reason=", ReasonOf(outcome)));
}

Authorizer::StreamLease::StreamLease(StreamLease&& other) noexcept
    : authorizer_(std::exchange(other.authorizer_, nullptr)), owner_(std::move(other.owner_)) {}

Authorizer::StreamLease& Authorizer::StreamLease::operator=(StreamLease&& other) noexcept {
  std::swap(authorizer_, other.authorizer_);
  std::swap(owner_, other.owner_);
  return *this;
}

Authorizer::StreamLease::~StreamLease() {
  if (authorizer_ != nullptr) {
    authorizer_->CloseStream(owner_);
  }
}

}  // namespace normlab::server
