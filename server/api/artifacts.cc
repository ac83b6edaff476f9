#include "server/api/artifacts.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "common/unique_fd.h"
#include "server/api/artifact_file.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

constexpr int64_t kPieceBytes = 256 << 10;

class ArtifactSource final : public StreamSource<v1::ReadArtifactResponse> {
 public:
  ArtifactSource(Backend& backend, std::string job_id, std::string name, int64_t offset)
      : backend_(backend), job_id_(std::move(job_id)), name_(std::move(name)), offset_(offset) {}

  absl::StatusOr<StreamStep> Next(bool /*idle*/, v1::ReadArtifactResponse& response) override {
    const bool first = !file_.valid();
    if (first) {
      NORMLAB_RETURN_IF_ERROR(Open());
      *response.mutable_artifact() = stored_.artifact;
    } else if (offset_ == stored_.artifact.bytes()) {
      return StreamStep::kEnd;
    }
    response.set_offset(offset_);
    std::string& data = *response.mutable_data();
    data.resize(static_cast<size_t>(std::min(kPieceBytes, stored_.artifact.bytes() - offset_)));
    NORMLAB_RETURN_IF_ERROR(ReadWhole(data));
    offset_ += static_cast<int64_t>(data.size());
    return StreamStep::kMessage;
  }

  StreamPosition position() const override { return {"offset", absl::StrCat(offset_)}; }

 private:
  absl::Status Open() {
    NORMLAB_ASSIGN_OR_RETURN(std::vector<StoredArtifact> all,
                             backend_.store.ListArtifacts(job_id_));
    const auto found = std::find_if(all.begin(), all.end(), [&](const StoredArtifact& one) {
      return one.artifact.name() == name_;
    });
    if (found == all.end()) {
      return ArtifactNotFound(name_);
    }
    stored_ = std::move(*found);
    absl::StatusOr<common::UniqueFd> file =
        OpenArtifactFile(backend_.options.work_dir, stored_.path);
    if (absl::IsNotFound(file.status()) && !stored_.final) {
      return ArtifactNotFound(name_);
    }
    if (!file.ok()) {
      return ArtifactDamaged(name_, file.status().message());
    }
    struct stat info = {};
    if (fstat(file->get(), &info) != 0 || info.st_size != stored_.artifact.bytes()) {
      return ArtifactDamaged(name_, absl::StrCat("it has ", info.st_size, " bytes instead of ",
                                                 stored_.artifact.bytes()));
    }
    if (offset_ > stored_.artifact.bytes()) {
      return OffsetOutOfRange(offset_, stored_.artifact.bytes());
    }
    file_ = *std::move(file);
    return absl::OkStatus();
  }

  absl::Status ReadWhole(std::string& data) const {
    size_t done = 0;
    while (done < data.size()) {
      const ssize_t count = pread(file_.get(), data.data() + done, data.size() - done,
                                  static_cast<off_t>(offset_) + static_cast<off_t>(done));
      if (count < 0 && errno == EINTR) {
        continue;
      }
      if (count <= 0) {
        return ArtifactDamaged(name_, count == 0 ? "it became shorter" : std::strerror(errno));
      }
      done += static_cast<size_t>(count);
    }
    return absl::OkStatus();
  }

  Backend& backend_;
  const std::string job_id_;
  const std::string name_;
  int64_t offset_;
  StoredArtifact stored_;
  common::UniqueFd file_;
};

}  // namespace

absl::StatusOr<v1::ListArtifactsResponse> HandleListArtifacts(
    Backend& backend, const Caller& /*caller*/, const v1::ListArtifactsRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseJobName(request.parent(), "parent"));
  NORMLAB_ASSIGN_OR_RETURN(std::vector<StoredArtifact> all, backend.store.ListArtifacts(id));
  v1::ListArtifactsResponse response;
  for (StoredArtifact& one : all) {
    const bool replaced =
        !one.final &&
        absl::IsNotFound(OpenArtifactFile(backend.options.work_dir, one.path).status());
    if (!replaced) {
      *response.add_artifacts() = std::move(one.artifact);
    }
  }
  return response;
}

absl::StatusOr<std::unique_ptr<StreamSource<v1::ReadArtifactResponse>>> NewArtifactSource(
    Backend& backend, const v1::ReadArtifactRequest& request) {
  NORMLAB_ASSIGN_OR_RETURN(const ArtifactName name, ParseArtifactName(request.name()));
  if (request.offset() < 0) {
    return InvalidArgument("offset", absl::StrCat("is ", request.offset(),
                                                  "; use the number of bytes that you have, or 0"));
  }
  return std::make_unique<ArtifactSource>(backend, name.job_id, request.name(), request.offset());
}

}  // namespace normlab::server
