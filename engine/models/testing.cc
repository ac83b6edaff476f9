#include "engine/models/testing.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "engine/spec/resolve.h"
#include "engine/spec/validate.h"

namespace normlab::engine::testing {

v1::JobSpec Spec(const std::string& text) {
  v1::JobSpec spec;
  spec.mutable_data()->mutable_mnist();
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(text, &spec)) << text;
  for (const Violation& violation : Validate(spec)) {
    ADD_FAILURE() << text << ": " << violation.field << " " << violation.description;
  }
  return Resolve(spec);
}

std::vector<std::string> NormalizerKinds() {
  std::vector<std::string> names;
  const auto* kinds = v1::Normalizer::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < kinds->field_count(); ++i) {
    names.push_back(kinds->field(i)->name());
  }
  return names;
}

std::vector<std::string> Names(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes()) {
    names.push_back(node.name);
  }
  return names;
}

std::vector<std::string> ParameterNames(const Graph& graph) {
  std::vector<std::string> names;
  for (const ParameterSpec& parameter : graph.parameters()) {
    names.push_back(parameter.name);
  }
  return names;
}

}  // namespace normlab::engine::testing
