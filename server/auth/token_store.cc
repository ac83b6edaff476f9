#include "server/auth/token_store.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_cat.h"

#include "common/sha256.h"
#include "common/status_macros.h"

#include <spdlog/spdlog.h>

namespace normlab::server {

bool ConstantTimeEqual(absl::string_view a, absl::string_view b) {
  if (a.size() != b.size()) {
    return false;  // lengths of hashes are no secret
  }
  // volatile: the compiler must not find out that it could stop early.
  volatile unsigned char difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference = static_cast<unsigned char>(
        difference | (static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i])));
  }
  return difference == 0;
}

TokenStore::Version TokenStore::VersionOf(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    return {};
  }
  return {.device = info.st_dev,
          .inode = info.st_ino,
          .bytes = info.st_size,
          .modified_ns = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec,
          .changed_ns = int64_t{info.st_ctim.tv_sec} * 1'000'000'000 + info.st_ctim.tv_nsec};
}

absl::StatusOr<std::unique_ptr<TokenStore>> TokenStore::Open(Options options) {
  // Before the reading: a change in between is read again.
  const Version version = VersionOf(options.path);
  NORMLAB_ASSIGN_OR_RETURN(std::vector<TokenEntry> entries, ReadTokensFile(options.path));
  if (entries.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the tokens file ", options.path,
                     " has no token, so nobody could call; add the line that `normlab token new` "
                     "prints"));
  }
  options.on_read(true);
  return std::unique_ptr<TokenStore>(
      new TokenStore(std::move(options), std::move(entries), version));
}

TokenStore::TokenStore(Options options, std::vector<TokenEntry> entries, Version version)
    : options_(std::move(options)),
      entries_(std::make_shared<const std::vector<TokenEntry>>(std::move(entries))),
      version_(version),
      thread_([this] { Watch(); }) {}

TokenStore::~TokenStore() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    stopped_.NotifyAll();
  }
  thread_.join();
}

std::optional<Caller> TokenStore::Find(absl::string_view token) const {
  std::shared_ptr<const std::vector<TokenEntry>> entries;
  {
    absl::MutexLock lock(&mu_);
    entries = entries_;
  }
  const std::string hash = common::Sha256Bytes(token);
  const TokenEntry* found = nullptr;
  for (const TokenEntry& entry : *entries) {
    if (ConstantTimeEqual(entry.sha256, hash)) {
      found = &entry;
    }
  }
  if (found == nullptr) {
    return std::nullopt;
  }
  Caller caller = found->caller;
  caller.token_sha256 = found->sha256;
  return caller;
}

bool TokenStore::StillValid(const Caller& caller) const {
  std::shared_ptr<const std::vector<TokenEntry>> entries;
  {
    absl::MutexLock lock(&mu_);
    entries = entries_;
  }
  for (const TokenEntry& entry : *entries) {
    if (ConstantTimeEqual(entry.sha256, caller.token_sha256)) {
      return entry.caller.name == caller.name && entry.caller.role == caller.role &&
             entry.caller.owner == caller.owner;
    }
  }
  return false;
}

void TokenStore::Watch() {
  while (true) {
    {
      absl::MutexLock lock(&mu_);
      if (stopped_.WaitFor(mu_, options_.poll_interval,
                           [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stopping_; })) {
        return;
      }
    }
    const Version now = VersionOf(options_.path);
    if (!(now == version_)) {
      version_ = now;
      ReadAgain();
    }
  }
}

void TokenStore::ReadAgain() {
  absl::StatusOr<std::vector<TokenEntry>> entries = ReadTokensFile(options_.path);
  if (!entries.ok()) {
    spdlog::error("{}; the tokens read before stay in force",
                  std::string(entries.status().message()));
    options_.on_read(false);
    return;
  }
  spdlog::info("{} has {} token(s), in force now", options_.path, entries->size());
  {
    absl::MutexLock lock(&mu_);
    entries_ = std::make_shared<const std::vector<TokenEntry>>(*std::move(entries));
  }
  generation_.fetch_add(1, std::memory_order_release);
  options_.on_read(true);
}

}  // namespace normlab::server
