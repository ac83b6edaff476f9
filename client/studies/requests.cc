#include "client/studies/requests.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "common/sha256.h"

namespace normlab::client::studies {
namespace {

constexpr size_t kDigits = 16;
constexpr size_t kLargestLabel = 200;

// Equal messages give equal bytes, maps included.
std::string Bytes(const google::protobuf::Message& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  return bytes;
}

}  // namespace

std::vector<v1::CreateExperimentRequest> MakeRequests(const Plan& plan,
                                                      absl::string_view server_version,
                                                      absl::string_view again) {
  std::vector<v1::CreateExperimentRequest> requests;
  common::Sha256 hash;
  hash.Update(absl::StrCat(plan.study, "\n", plan.preset, "\n", server_version, "\n", again, "\n"));
  for (const Part& part : plan.parts) {
    v1::CreateExperimentRequest& request = requests.emplace_back();
    v1::Experiment& experiment = *request.mutable_experiment();
    experiment.set_display_name(
        absl::StrCat("study ", plan.study, ", ", plan.preset, ": ", part.name));
    *experiment.mutable_base() = part.base;
    *experiment.mutable_design() = MakeDesign(part);
    hash.Update(absl::StrCat(part.name, "\n"));
    hash.Update(Bytes(experiment));
  }
  const std::string run = hash.FinishHex().substr(0, kDigits);
  const std::string changes = absl::StrJoin(plan.changes, " ");
  for (size_t i = 0; i < requests.size(); ++i) {
    v1::Experiment& experiment = *requests[i].mutable_experiment();
    auto& labels = *experiment.mutable_labels();
    labels[kStudyLabel] = plan.study;
    labels[kPresetLabel] = plan.preset;
    labels[kPartLabel] = plan.parts[i].name;
    labels[kRunLabel] = run;
    if (!changes.empty()) {
      // Cut off rather than left out: a run that was changed never passes for the preset itself.
      labels[kChangesLabel] = changes.size() <= kLargestLabel
                                  ? changes
                                  : absl::StrCat(changes.substr(0, kLargestLabel - 4), " ...");
    }
    *experiment.mutable_base()->mutable_labels() = labels;
    requests[i].set_request_id(absl::StrCat("study-", run, "-", plan.parts[i].name));
  }
  return requests;
}

}  // namespace normlab::client::studies
