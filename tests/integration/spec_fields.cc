#include "tests/integration/spec_fields.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"

namespace normlab {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

void Walk(const Descriptor& type,
          std::vector<const FieldDescriptor*>& path,
          const VisitField& visit) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    path.push_back(field);
    const bool well_known = field->message_type() != nullptr &&
                            field->message_type()->file()->package() != "normlab.v1";
    const auto times = std::count(path.begin(), path.end(), field);
    if (field->message_type() == nullptr) {
      v1::JobSpec spec = GoodSpec();
      std::string text;
      Message* message = &spec;
      for (const FieldDescriptor* step : path) {
        absl::StrAppend(&text, text.empty() ? "" : ".", step->name());
        if (step == path.back()) {
          break;
        }
        if (step->is_repeated()) {
          message = message->GetReflection()->AddMessage(message, step);
          absl::StrAppend(&text, "[", 0, "]");
        } else {
          message = message->GetReflection()->MutableMessage(message, step);
        }
      }
      visit(spec, *message, *field, text);
    } else if (!well_known && !field->is_map() && times < 2) {
      Walk(*field->message_type(), path, visit);
    }
    path.pop_back();
  }
}

}  // namespace

v1::JobSpec GoodSpec() {
  v1::JobSpec spec;
  spec.mutable_model()->mutable_mlp()->add_hidden(4);
  spec.mutable_data()->mutable_gaussian_classes()->set_train_examples(200);
  spec.mutable_data()->mutable_gaussian_classes()->set_test_examples(20);
  spec.set_steps(2);
  return spec;
}

void EveryField(const VisitField& visit) {
  std::vector<const FieldDescriptor*> path;
  Walk(*v1::JobSpec::descriptor(), path, visit);
}

}  // namespace normlab
