#include "tests/bench/training_input.h"

#include "absl/strings/str_cat.h"
#include <google/protobuf/text_format.h>

#include "engine/data/data_inspector.h"
#include "engine/spec/resolve.h"

namespace normlab::engine {

absl::StatusOr<v1::JobSpec> ResolvedSpec(const std::string& text) {
  v1::JobSpec spec;
  if (!google::protobuf::TextFormat::ParseFromString(text, &spec)) {
    return absl::InternalError(absl::StrCat("cannot read the spec ", text));
  }
  return Resolve(spec);
}

absl::StatusOr<MappedDataset> OpenData(const v1::JobSpec& resolved,
                                       const std::filesystem::path& folder) {
  v1::InspectDataRequest request;
  *request.mutable_data() = resolved.data();
  request.add_data_roots(kDataRoot);
  request.set_cache_folder(folder.string());
  DataInspector inspector;
  const v1::DataReport report = inspector.Inspect(request);
  if (report.violations_size() > 0) {
    return absl::InternalError(report.violations(0).description());
  }
  return MappedDataset::Open(report.data_cache());
}

}  // namespace normlab::engine
