#include "server/app/tls_keeper.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include "common/status_macros.h"

#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

constexpr absl::Duration kLookInterval = absl::Seconds(1);
constexpr unsigned kGrpcLookSeconds = 1;

// A file in memory that no other process sees.
absl::StatusOr<common::UniqueFd> InMemory(absl::string_view text) {
  common::UniqueFd file(memfd_create("normlab-tls", MFD_CLOEXEC));
  if (!file.valid()) {
    return absl::ErrnoToStatus(errno, "cannot make a file in memory");
  }
  while (!text.empty()) {
    const ssize_t count = write(file.get(), text.data(), text.size());
    if (count < 0) {
      return absl::ErrnoToStatus(errno, "cannot write to a file in memory");
    }
    text.remove_prefix(static_cast<size_t>(count));
  }
  return file;
}

std::string PathOf(const common::UniqueFd& copy) {
  return absl::StrCat("/proc/self/fd/", copy.get());
}

}  // namespace

absl::StatusOr<std::unique_ptr<TlsKeeper>> TlsKeeper::Start(TlsFiles files) {
  std::unique_ptr<TlsKeeper> keeper(new TlsKeeper(std::move(files)));
  NORMLAB_ASSIGN_OR_RETURN(const TlsTexts texts, ReadTlsFiles(keeper->files_));
  NORMLAB_RETURN_IF_ERROR(keeper->Serve(texts));
  keeper->thread_ = std::thread([&keeper = *keeper] { keeper.Watch(); });
  return keeper;
}

TlsKeeper::~TlsKeeper() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    wakes_.NotifyAll();
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

absl::Time TlsKeeper::certificate_end() const {
  absl::MutexLock lock(&mu_);
  return end_;
}

std::shared_ptr<grpc::ServerCredentials> TlsKeeper::MakeCredentials() const {
  const bool asks_clients = !files_.client_ca.empty();
  grpc::experimental::TlsServerCredentialsOptions options(
      std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
          PathOf(copies_[1]), PathOf(copies_[0]), asks_clients ? PathOf(copies_[2]) : "",
          kGrpcLookSeconds));
  options.watch_identity_key_cert_pairs();
  if (asks_clients) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

void TlsKeeper::Watch() {
  while (true) {
    {
      absl::MutexLock lock(&mu_);
      const auto stopping = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stopping_; };
      if (wakes_.WaitFor(mu_, kLookInterval, stopping)) {
        return;
      }
    }
    Look();
  }
}

void TlsKeeper::Look() {
  const absl::StatusOr<TlsTexts> texts = ReadTlsFiles(files_);
  absl::Status problem = texts.status();
  if (texts.ok() && *texts != served_) {
    problem = Serve(*texts);
    if (problem.ok()) {
      spdlog::info("new certificate of {}, valid until {}", files_.certificate,
                   absl::FormatTime("%Y-%m-%d", certificate_end(), absl::UTCTimeZone()));
    }
  }
  // Said once for each new problem: a renewal that is under way is over when it is looked at again.
  if (!problem.ok() && problem.message() != last_problem_ && !healthy_.load()) {
    spdlog::error("{}; the certificate read before is served on", std::string(problem.message()));
    last_problem_ = std::string(problem.message());
  }
  if (problem.ok()) {
    last_problem_.clear();
  }
  healthy_.store(problem.ok());
}

absl::Status TlsKeeper::Serve(const TlsTexts& texts) {
  const std::array<const std::string*, 3> wanted = {&texts.certificate, &texts.key,
                                                    &texts.client_ca};
  std::array<common::UniqueFd, 3> files;
  for (size_t i = 0; i < files.size(); ++i) {
    NORMLAB_ASSIGN_OR_RETURN(files[i], InMemory(*wanted[i]));
  }
  for (size_t i = 0; i < files.size(); ++i) {
    if (!copies_[i].valid()) {
      copies_[i] = std::move(files[i]);
    } else if (dup3(files[i].get(), copies_[i].get(), O_CLOEXEC) < 0) {
      return absl::ErrnoToStatus(errno, "cannot replace a file in memory");
    }
  }
  served_ = texts;
  absl::MutexLock lock(&mu_);
  end_ = texts.end;
  return absl::OkStatus();
}

}  // namespace normlab::server
