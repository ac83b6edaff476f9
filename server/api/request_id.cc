#include "server/api/request_id.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "common/sha256.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;

}  // namespace

absl::Status CheckRequestId(const std::string& request_id) {
  if (request_id.size() > kMaxRequestIdBytes) {
    return InvalidArgument(
        "request_id",
        absl::StrCat("has ", request_id.size(), " characters; use at most ", kMaxRequestIdBytes));
  }
  for (const char c : request_id) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) {
      return InvalidArgument("request_id",
                             absl::StrCat(QuotedForMessage(request_id),
                                          " has characters that are not printable ASCII; use a "
                                          "UUID, for example"));
    }
  }
  return absl::OkStatus();
}

std::string RequestHash(const google::protobuf::MessageLite& body) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    body.SerializeToCodedStream(&coded);
  }
  return common::Sha256Bytes(bytes);
}

}  // namespace normlab::server
