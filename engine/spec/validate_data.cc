#include "absl/strings/str_cat.h"

#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {
namespace {

constexpr int64_t kMaxInt32 = 0x7FFFFFFF;

void ValidateFolder(absl::string_view field, const v1::IdxImages& images, Checker& checker) {
  const std::string& path = images.path();
  if (path.find('\0') != std::string::npos) {
    checker.Fail(field, absl::StrCat("is ", Quoted(path), ", which has a zero byte; remove it"));
  }
  if (static_cast<int64_t>(path.size()) > kMaxPathBytes) {
    checker.Fail(field, absl::StrCat("has ", path.size(), " bytes, but a path has at most ",
                                     kMaxPathBytes, "; move the files to a shorter one"));
  }
}

}  // namespace

void ValidateData(const v1::JobSpec& spec, Checker& checker) {
  const v1::Data& data = spec.data();
  switch (data.source_case()) {
    case v1::Data::kFashionMnist:
      ValidateFolder("data.fashion_mnist.path", data.fashion_mnist(), checker);
      break;
    case v1::Data::kMnist:
      ValidateFolder("data.mnist.path", data.mnist(), checker);
      break;
    default:
      checker.Fail(
          "data", "names no data set; give for example {\"fashion_mnist\": {}} or {\"mnist\": {}}");
      break;
  }
  checker.Enum("data.scaling", data.scaling(), v1::Scaling::Kind_descriptor());
  checker.Enum("data.last_batch", data.last_batch(), v1::LastBatch::Kind_descriptor());
  checker.Range("data.train_limit", data.train_limit(), 0, kMaxInt32, "0 means all examples");
  checker.Range("data.test_limit", data.test_limit(), 0, kMaxInt32, "0 means all examples");
}

}  // namespace normlab::engine
