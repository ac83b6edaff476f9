#include "engine/worker/helper_command.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <exception>
#include <iostream>
#include <new>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "common/status_macros.h"
#include "common/unique_fd.h"
#include "engine/data/data_inspector.h"
#include "engine/dnnl/runtime.h"
#include "engine/worker/inspect_job.h"
#include "engine/worker/normalize_command.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::engine {
namespace {

// As the server has it: eight tensors of 16 MiB and some room.
constexpr uint32_t kMaxMessageBytes = 160U << 20;
constexpr size_t kPrefixBytes = 4;

// Fills `buffer`. False: the stream ended before its first byte.
absl::StatusOr<bool> ReadAll(int fd, char* buffer, size_t bytes) {
  size_t done = 0;
  while (done < bytes) {
    const ssize_t count = recv(fd, buffer + done, bytes - done, 0);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return absl::ErrnoToStatus(errno, "cannot read from the server");
    }
    if (count == 0) {
      if (done == 0) {
        return false;
      }
      return absl::DataLossError("the server's request ends in the middle");
    }
    done += static_cast<size_t>(count);
  }
  return true;
}

absl::Status WriteAll(int fd, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t count = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return absl::ErrnoToStatus(errno, "cannot write to the server");
    }
    data.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

uint32_t DecodeLength(const unsigned char* prefix) {
  return prefix[0] | uint32_t{prefix[1]} << 8 | uint32_t{prefix[2]} << 16 |
         uint32_t{prefix[3]} << 24;
}

std::string EncodeLength(size_t length) {
  std::string prefix;
  for (size_t i = 0; i < kPrefixBytes; ++i) {
    prefix.push_back(static_cast<char>(length >> (8 * i) & 0xFF));
  }
  return prefix;
}

// False: the server closed the stream.
absl::StatusOr<bool> ReadRequest(int fd, v1::HelperRequest& request) {
  unsigned char prefix[kPrefixBytes];
  NORMLAB_ASSIGN_OR_RETURN(const bool more,
                           ReadAll(fd, reinterpret_cast<char*>(prefix), kPrefixBytes));  // NOLINT
  if (!more) {
    return false;
  }
  const uint32_t length = DecodeLength(prefix);
  if (length > kMaxMessageBytes) {
    return absl::DataLossError(absl::StrCat("a request of ", length,
                                            " bytes is announced; at most ", kMaxMessageBytes,
                                            " are allowed"));
  }
  std::string bytes(length, '\0');
  NORMLAB_ASSIGN_OR_RETURN(const bool whole, ReadAll(fd, bytes.data(), bytes.size()));
  if ((length > 0 && !whole) || !request.ParseFromString(bytes)) {
    return absl::DataLossError("the server sent something that is not a request");
  }
  return true;
}

v1::DataReport InspectOrExplain(DataInspector& inspector, const v1::InspectDataRequest& request) {
  const auto failed = [](absl::string_view what) {
    v1::DataReport report;
    v1::SpecViolation& violation = *report.add_violations();
    violation.set_field("data");
    violation.set_description(absl::StrCat("the data set could not be looked at: ", what,
                                           "; try again, and report it if it stays"));
    return report;
  };
  try {
    return InspectJob(inspector, request);
  } catch (const std::bad_alloc&) {
    return failed("the helper process ran out of memory");
  } catch (const std::exception& error) {
    return failed(error.what());
  }
}

v1::NormalizeResult NormalizeOrExplain(const v1::NormalizeRequest& request) {
  const auto failed = [](absl::string_view what) {
    v1::NormalizeResult result;
    result.set_failure(std::string(what));
    return result;
  };
  try {
    return Normalize(request);
  } catch (const std::bad_alloc&) {
    return failed("the helper process ran out of memory; send a smaller tensor");
  } catch (const std::exception& error) {
    return failed(error.what());
  }
}

absl::Status Serve(int fd) {
  DataInspector inspector;
  while (true) {
    v1::HelperRequest request;
    NORMLAB_ASSIGN_OR_RETURN(const bool more, ReadRequest(fd, request));
    if (!more) {
      return absl::OkStatus();
    }
    v1::HelperResponse response;
    response.set_id(request.id());
    switch (request.kind_case()) {
      case v1::HelperRequest::kInspectData:
        *response.mutable_data() = InspectOrExplain(inspector, request.inspect_data());
        break;
      case v1::HelperRequest::kEngineInfo:
        response.mutable_engine_info()->set_onednn_version(OneDnnVersion());
        response.mutable_engine_info()->set_isa(CpuIsaName());
        break;
      case v1::HelperRequest::kNormalize:
        *response.mutable_normalize() = NormalizeOrExplain(request.normalize());
        break;
      default:
        break;  // a request of a later version: answered without a kind
    }
    const std::string bytes = response.SerializeAsString();
    NORMLAB_RETURN_IF_ERROR(WriteAll(fd, EncodeLength(bytes.size())));
    NORMLAB_RETURN_IF_ERROR(WriteAll(fd, bytes));
  }
}

}  // namespace

int RunHelperCommand(int fd) {
  const common::UniqueFd socket(fd);
  const absl::Status status = Serve(socket.get());
  if (!status.ok()) {
    std::cerr << "normlab-worker --helper: " << status.message() << "\n";
    return 1;
  }
  return 0;
}

}  // namespace normlab::engine
