#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/steady_wait.h"
#include "server/auth/tokens_file.h"

namespace normlab::server {

// The tokens that the server knows: those of its tokens file, read again when the file changes. A
// changed file that cannot be read or is wrong changes nothing; the log says why, and so does the
// metric, until the file is right again. Thread-safe. Owns a thread.
class TokenStore {
 public:
  struct Options {
    std::string path;
    // How often the file is looked at.
    absl::Duration poll_interval = absl::Seconds(1);
    // Told after every reading, on the thread of this object; `ok`: what the file says is in
    // force. Must not block.
    std::function<void(bool ok)> on_read = [](bool /*ok*/) {};
  };

  // As ReadTokensFile; also FAILED_PRECONDITION for a file without any token.
  static absl::StatusOr<std::unique_ptr<TokenStore>> Open(Options options);
  ~TokenStore();
  TokenStore(const TokenStore&) = delete;
  TokenStore& operator=(const TokenStore&) = delete;

  // Whom the token stands for; nullopt: nobody. Compares its hash with every known one, in a time
  // that does not depend on how much of them agrees.
  std::optional<Caller> Find(absl::string_view token) const;

  // Whether the very token that the caller came with is still in force and still stands for them.
  // One that was replaced by another of the same name is not.
  bool StillValid(const Caller& caller) const;

  // Counts the readings that changed something.
  int64_t generation() const { return generation_.load(std::memory_order_acquire); }

 private:
  // What tells a changed file from the one that was read.
  struct Version {
    dev_t device = 0;
    ino_t inode = 0;
    off_t bytes = 0;
    int64_t modified_ns = 0;
    int64_t changed_ns = 0;
    friend bool operator==(const Version&, const Version&) = default;
  };

  TokenStore(Options options, std::vector<TokenEntry> entries, Version version);
  static Version VersionOf(const std::string& path);
  void Watch();
  void ReadAgain();

  const Options options_;
  std::atomic<int64_t> generation_ = 0;
  mutable absl::Mutex mu_;
  std::shared_ptr<const std::vector<TokenEntry>> entries_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  common::SteadyWait stopped_;
  Version version_;  // the watching thread's
  std::thread thread_;
};

// Whether both are the same, in a time that depends on their lengths only. Pure.
bool ConstantTimeEqual(absl::string_view a, absl::string_view b);

}  // namespace normlab::server
