// Refuses a change of the wire contract that would make old clients, stored jobs or spec files mean something else:
// a changed or re-used field number, type, label or name, a vanished value, method or message. Additions are welcome;
// tests/structure/update_contract then records them.
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

namespace normlab {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptorSet;

FileDescriptorSet Load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  FileDescriptorSet set;
  EXPECT_TRUE(set.ParseFromIstream(&file)) << "cannot read " << path;
  return set;
}

void CompareEnum(const google::protobuf::EnumDescriptor& before,
                 const DescriptorPool& now,
                 std::vector<std::string>& changes) {
  const auto* current = now.FindEnumTypeByName(before.full_name());
  if (current == nullptr) {
    changes.push_back(absl::StrCat("enum ", before.full_name(), " is gone"));
    return;
  }
  for (int i = 0; i < before.value_count(); ++i) {
    const auto* value = current->FindValueByName(before.value(i)->name());
    if (value == nullptr || value->number() != before.value(i)->number()) {
      changes.push_back(absl::StrCat(before.value(i)->full_name(), " = ", before.value(i)->number(),
                                     value == nullptr ? " is gone" : " has another number"));
    }
  }
}

void CompareMessage(const google::protobuf::Descriptor& before,
                    const DescriptorPool& now,
                    std::vector<std::string>& changes) {
  const auto* current = now.FindMessageTypeByName(before.full_name());
  if (current == nullptr) {
    changes.push_back(absl::StrCat("message ", before.full_name(), " is gone"));
    return;
  }
  for (int i = 0; i < before.field_count(); ++i) {
    const auto& old_field = *before.field(i);
    const auto* field = current->FindFieldByNumber(old_field.number());
    if (field == nullptr) {
      // Retired fields must stay reserved, so that nobody uses the number for something else.
      if (!current->IsReservedNumber(old_field.number())) {
        changes.push_back(absl::StrCat(old_field.full_name(), " is gone and ", old_field.number(),
                                       " is not reserved"));
      }
      continue;
    }
    const auto type_name = [](const google::protobuf::FieldDescriptor& f) {
      return f.message_type() != nullptr ? f.message_type()->full_name()
             : f.enum_type() != nullptr  ? f.enum_type()->full_name()
                                         : std::string(f.type_name());
    };
    if (field->name() != old_field.name() || type_name(*field) != type_name(old_field) ||
        field->label() != old_field.label() || field->has_presence() != old_field.has_presence()) {
      changes.push_back(absl::StrCat(old_field.DebugString(), "became ", field->DebugString()));
    }
  }
  for (int i = 0; i < before.nested_type_count(); ++i) {
    CompareMessage(*before.nested_type(i), now, changes);
  }
  for (int i = 0; i < before.enum_type_count(); ++i) {
    CompareEnum(*before.enum_type(i), now, changes);
  }
}

void Build(const FileDescriptorSet& set, DescriptorPool& pool) {
  for (const auto& file : set.file()) {
    ASSERT_NE(pool.BuildFile(file), nullptr) << file.name();
  }
}

// What `now` breaks of `before`.
std::vector<std::string> Compare(const FileDescriptorSet& before_set,
                                 const FileDescriptorSet& now_set) {
  DescriptorPool before;
  DescriptorPool now;
  Build(before_set, before);
  Build(now_set, now);
  std::vector<std::string> changes;
  for (const auto& proto : before_set.file()) {
    const auto& file = *before.FindFileByName(proto.name());
    for (int i = 0; i < file.message_type_count(); ++i) {
      CompareMessage(*file.message_type(i), now, changes);
    }
    for (int i = 0; i < file.enum_type_count(); ++i) {
      CompareEnum(*file.enum_type(i), now, changes);
    }
    for (int s = 0; s < file.service_count(); ++s) {
      const auto& service = *file.service(s);
      for (int m = 0; m < service.method_count(); ++m) {
        const auto& method = *service.method(m);
        const auto* current = now.FindMethodByName(method.full_name());
        if (current == nullptr ||
            current->input_type()->full_name() != method.input_type()->full_name() ||
            current->output_type()->full_name() != method.output_type()->full_name() ||
            current->client_streaming() != method.client_streaming() ||
            current->server_streaming() != method.server_streaming()) {
          changes.push_back(absl::StrCat("method ", method.full_name(), " changed"));
        }
      }
    }
  }
  return changes;
}

google::protobuf::DescriptorProto* FindMessage(FileDescriptorSet& set, const std::string& name) {
  for (auto& file : *set.mutable_file()) {
    for (auto& message : *file.mutable_message_type()) {
      if (message.name() == name) {
        return &message;
      }
    }
  }
  return nullptr;
}

TEST(ContractTest, TheCommittedContractStillHolds) {
  const auto changes = Compare(Load(NORMLAB_COMMITTED_CONTRACT), Load(NORMLAB_CURRENT_CONTRACT));
  EXPECT_TRUE(changes.empty()) << absl::StrJoin(changes, "\n");
}

TEST(ContractTest, TheCommittedContractIsUpToDate) {
  const auto missing = Compare(Load(NORMLAB_CURRENT_CONTRACT), Load(NORMLAB_COMMITTED_CONTRACT));
  EXPECT_TRUE(missing.empty()) << "the .proto files have additions that are not recorded: run "
                                  "tests/structure/update_contract\n"
                               << absl::StrJoin(missing, "\n");
}

TEST(ContractTest, BreakingChangesAreSeen) {
  const FileDescriptorSet before = Load(NORMLAB_COMMITTED_CONTRACT);
  const auto broken = [&](const std::function<void(google::protobuf::DescriptorProto&)>& change) {
    FileDescriptorSet now = before;
    auto* message = FindMessage(now, "Sgd");
    EXPECT_NE(message, nullptr);
    change(*message);
    return !Compare(before, now).empty();
  };
  EXPECT_FALSE(broken([](auto&) {}));
  EXPECT_TRUE(broken([](auto& m) { m.mutable_field(1)->set_number(77); }));
  EXPECT_TRUE(broken([](auto& m) {
    m.mutable_field(1)->set_type(google::protobuf::FieldDescriptorProto::TYPE_FLOAT);
  }));
  EXPECT_TRUE(broken([](auto& m) { m.mutable_field(1)->set_name("friction"); }));
  EXPECT_TRUE(broken([](auto& m) { m.mutable_field()->DeleteSubrange(1, 1); }));
  EXPECT_FALSE(broken([](auto& m) {
    auto* range = m.add_reserved_range();
    range->set_start(m.field(1).number());
    range->set_end(m.field(1).number() + 1);
    m.mutable_field()->DeleteSubrange(1, 1);
  }));
}

}  // namespace
}  // namespace normlab
