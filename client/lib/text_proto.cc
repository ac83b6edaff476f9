#include "client/lib/text_proto.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"

#include "client/lib/spec_binder.h"
#include "common/name_hint.h"

namespace normlab::client {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;

constexpr int kMaxDepth = 64;

// A hint for what protobuf's parser says, which names the message but not the field that was meant.
std::string HintFor(const std::string& message) {
  // Message type "normlab.v1.Mlp" has no field named "hiden".
  const std::vector<std::string> parts = absl::StrSplit(message, '"');
  if (parts.size() == 5 && parts[2] == " has no field named ") {
    const Descriptor* descriptor =
        google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(parts[1]);
    if (descriptor != nullptr) {
      return absl::StrCat("unknown field ", parts[3], "; ",
                          common::NameHint(parts[3], FieldNames(*descriptor)));
    }
  }
  return absl::StrCat(message, message.empty() || message.back() != '.' ? ";" : "",
                      " correct the text here or just before");
}

class Collector : public google::protobuf::io::ErrorCollector {
 public:
  Collector(const std::string& name, std::vector<SpecViolation>& violations)
      : name_(name), violations_(violations) {}

  void AddError(int line, int column, const std::string& message) override {
    violations_.push_back({.where = {.source = name_, .line = line + 1, .column = column + 1},
                           .description = HintFor(message)});
  }

 private:
  const std::string& name_;
  std::vector<SpecViolation>& violations_;
};

// Notes the place of every field below `message`.
void CollectPositions(const std::string& name,
                      const Message& message,
                      TextFormat::ParseInfoTree* tree,
                      const std::string& path,
                      SpecDocument& document) {
  if (tree == nullptr) {
    return;
  }
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const int count = field->is_repeated() ? message.GetReflection()->FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const int index = field->is_repeated() ? i : -1;
      const std::string base =
          path.empty() ? field->name() : absl::StrCat(path, ".", field->name());
      const std::string field_path = index < 0 ? base : absl::StrCat(base, "[", index, "]");
      const TextFormat::ParseLocation location = tree->GetLocation(field, index);
      if (location.line >= 0) {
        const SourcePosition where{
            .source = name, .line = location.line + 1, .column = location.column + 1};
        document.positions.emplace(base, where);
        document.positions.emplace(field_path, where);
      }
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_map()) {
        const Message& nested =
            index < 0 ? message.GetReflection()->GetMessage(message, field)
                      : message.GetReflection()->GetRepeatedMessage(message, field, index);
        CollectPositions(name, nested, tree->GetTreeForNested(field, index), field_path, document);
      }
    }
  }
}

}  // namespace

void ParseTextProto(const std::string& name,
                    const std::string& text,
                    SpecDocument& document,
                    std::vector<SpecViolation>& violations) {
  Collector collector(name, violations);
  TextFormat::ParseInfoTree tree;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&collector);
  parser.WriteLocationsTo(&tree);
  parser.SetRecursionLimit(kMaxDepth);
  if (parser.ParseFromString(text, &document.spec)) {
    CollectPositions(name, document.spec, &tree, "", document);
  } else if (violations.empty()) {
    violations.push_back({.where = {.source = name},
                          .description = "is not a JobSpec in text format; check its braces"});
  }
}

}  // namespace normlab::client
