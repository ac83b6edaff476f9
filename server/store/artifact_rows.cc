#include "server/store/artifact_rows.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"

namespace normlab::server {
namespace {

constexpr int kMaxFiles = 64;
constexpr size_t kMaxPathBytes = 500;
// A worker keeps so many of its own.
constexpr int kKeptCheckpoints = 2;

bool IsSha256(const std::string& text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
         });
}

bool IsFileName(const std::string& name) {
  return !name.empty() && name.size() <= 200 && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
         });
}

bool IsBelow(const std::string& path, const std::string& folder) {
  if (path.size() > kMaxPathBytes || !absl::StartsWith(path, folder + "/") ||
      path.find('\0') != std::string::npos) {
    return false;
  }
  const std::vector<std::string> parts = absl::StrSplit(path, '/');
  return std::none_of(parts.begin(), parts.end(), [](const std::string& part) {
    return part.empty() || part == "." || part == "..";
  });
}

}  // namespace

bool IsBelowAttempt(const AttemptKey& attempt, const std::string& path) {
  return IsBelow(path, AttemptFolder(attempt.job_id, attempt.number));
}

absl::Status CheckArtifactFiles(const AttemptKey& attempt, const ArtifactFiles& files) {
  if (files.size() > kMaxFiles) {
    return InvalidReport(absl::StrCat(files.size(), " files at once"));
  }
  const std::string folder = AttemptFolder(attempt.job_id, attempt.number);
  for (const v1::ArtifactFile& file : files) {
    if (!IsBelow(file.path(), folder)) {
      return InvalidReport(absl::StrCat("a file ", QuotedForMessage(file.path()),
                                        ", which must lie below ", folder));
    }
    if (!IsFileName(file.file_name()) || !IsSha256(file.sha256()) || file.bytes() < 0 ||
        file.bytes() > kMaxFileBytes) {
      return InvalidReport(absl::StrCat("a file ", QuotedForMessage(file.file_name()), " of ",
                                        file.bytes(), " bytes with the SHA-256 ",
                                        QuotedForMessage(file.sha256())));
    }
  }
  return absl::OkStatus();
}

int64_t WriteArtifacts(Connection& connection,
                       int64_t job_key,
                       int32_t attempt,
                       int64_t step,
                       bool final,
                       const ArtifactFiles& files,
                       absl::Time now) {
  for (const v1::ArtifactFile& file : files) {
    Query(connection,
          "INSERT INTO artifacts(job_key, id, attempt, step, final, path, file_name, bytes, "
          "sha256, create_time_us) VALUES (?1, 1 + (SELECT coalesce(max(id), 0) FROM artifacts "
          "WHERE job_key = ?1), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
          job_key, attempt, step, final, file.path(), file.file_name(), file.bytes(), file.sha256(),
          absl::ToUnixMicros(now))
        .Run();
  }
  if (!final) {
    Query(connection, "DELETE FROM artifacts WHERE job_key = ? AND attempt < ? AND NOT final",
          job_key, attempt)
        .Run();
    Query(connection,
          "DELETE FROM artifacts WHERE job_key = ?1 AND attempt = ?2 AND NOT final AND step NOT IN "
          "(SELECT DISTINCT step FROM artifacts WHERE job_key = ?1 AND attempt = ?2 AND NOT final "
          "ORDER BY step DESC LIMIT ?3)",
          job_key, attempt, kKeptCheckpoints)
        .Run();
  }
  Query total(connection, "SELECT coalesce(sum(bytes), 0) FROM artifacts WHERE job_key = ?",
              job_key);
  return total.Step() ? total.Int(0) : 0;
}

std::vector<StoredArtifact> ReadArtifacts(Connection& connection,
                                          int64_t job_key,
                                          const std::string& job_id) {
  std::vector<StoredArtifact> stored;
  Query query(connection,
              "SELECT id, attempt, step, final, path, file_name, bytes, sha256, create_time_us "
              "FROM artifacts WHERE job_key = ? ORDER BY id",
              job_key);
  while (query.Step()) {
    StoredArtifact& one = stored.emplace_back();
    one.artifact.set_name(absl::StrCat(JobName(job_id), "/artifacts/", query.Int(0)));
    one.artifact.set_attempt(static_cast<int32_t>(query.Int(1)));
    one.artifact.set_step(query.Int(2));
    one.final = query.Int(3) != 0;
    one.path = query.Text(4);
    one.artifact.set_file_name(query.Text(5));
    one.artifact.set_bytes(query.Int(6));
    one.artifact.set_sha256(query.Text(7));
    *one.artifact.mutable_create_time() = ToTimestamp(absl::FromUnixMicros(query.Int(8)));
  }
  return stored;
}

}  // namespace normlab::server
