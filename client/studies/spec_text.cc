#include "client/studies/spec_text.h"

#include <google/protobuf/util/json_util.h>

#include "yaml-cpp/yaml.h"

namespace normlab::client::studies {

std::string SpecYaml(const v1::JobSpec& spec) {
  std::string json;
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  if (!google::protobuf::util::MessageToJsonString(spec, &json, options).ok()) {
    return "";
  }
  try {
    // JSON is YAML: reading it and writing it in blocks is all.
    YAML::Node node = YAML::Load(json);
    const std::function<void(YAML::Node)> plain = [&plain](YAML::Node at) {
      if (at.IsMap() || at.IsSequence()) {
        at.SetStyle(at.IsMap() && at.size() > 0 ? YAML::EmitterStyle::Block
                                                : YAML::EmitterStyle::Flow);
        for (auto child : at) {
          plain(at.IsMap() ? child.second : YAML::Node(child));
        }
      }
    };
    plain(node);
    return YAML::Dump(node) + "\n";
  } catch (const YAML::Exception&) {
    return json;
  }
}

}  // namespace normlab::client::studies
