#include "server/domain/design.h"

#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/json_util.h>

#include "common/name_hint.h"
#include "common/random.h"
#include "common/status_macros.h"

namespace normlab::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;

constexpr int kMaxAxes = 16;
constexpr int kMaxValues = 10000;

std::vector<std::string> FieldNames(const Descriptor& descriptor) {
  std::vector<std::string> names;
  for (int i = 0; i < descriptor.field_count(); ++i) {
    names.push_back(descriptor.field(i)->name());
  }
  return names;
}

absl::Status Invalid(std::string description) {
  return absl::InvalidArgumentError(std::move(description));
}

// "probes[0]" -> probes, 0; -1 without an index.
struct PathPart {
  std::string name;
  int index = -1;
};

absl::StatusOr<PathPart> ParsePart(absl::string_view text) {
  PathPart part;
  const size_t bracket = text.find('[');
  part.name = std::string(text.substr(0, bracket));
  if (bracket != absl::string_view::npos) {
    absl::string_view index = text.substr(bracket + 1);
    if (!absl::ConsumeSuffix(&index, "]") || !absl::SimpleAtoi(index, &part.index) ||
        part.index < 0) {
      return Invalid(
          absl::StrCat("\"", text, "\" is no element of a list; write for example probes[0]"));
    }
  }
  return part;
}

absl::StatusOr<const FieldDescriptor*> FindField(const Message& message, const std::string& name) {
  const Descriptor& descriptor = *message.GetDescriptor();
  const FieldDescriptor* field = descriptor.FindFieldByName(name);
  if (field == nullptr) {
    return Invalid(absl::StrCat("\"", name, "\" is no field; ",
                                common::NameHint(name, FieldNames(descriptor))));
  }
  const OneofDescriptor* const oneof = field->real_containing_oneof();
  if (oneof != nullptr) {
    const FieldDescriptor* const chosen =
        message.GetReflection()->GetOneofFieldDescriptor(message, oneof);
    if (chosen != nullptr && chosen != field) {
      return Invalid(absl::StrCat("goes through ", name, ", but the spec has chosen ",
                                  chosen->name(), "; change the base spec, or choose ", name,
                                  " on an axis before this one"));
    }
  }
  return field;
}

// The message that holds the last field of the path.
absl::StatusOr<Message*> Descend(Message* message, const PathPart& part) {
  NORMLAB_ASSIGN_OR_RETURN(const FieldDescriptor* const field, FindField(*message, part.name));
  if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_map()) {
    return Invalid(absl::StrCat("\"", part.name, "\" has no fields; end the path there"));
  }
  if (!field->is_repeated()) {
    return message->GetReflection()->MutableMessage(message, field);
  }
  if (part.index < 0 || part.index >= message->GetReflection()->FieldSize(*message, field)) {
    return Invalid(absl::StrCat("\"", part.name, "\" is a list with ",
                                message->GetReflection()->FieldSize(*message, field),
                                " elements; name one of them, as ", part.name, "[0]"));
  }
  return message->GetReflection()->MutableRepeatedMessage(message, field, part.index);
}

// The member of a oneof of the field's message that `value` names; null: none.
const FieldDescriptor* NamedMember(const FieldDescriptor& field, absl::string_view value) {
  if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field.is_repeated()) {
    return nullptr;
  }
  const FieldDescriptor* const member = field.message_type()->FindFieldByName(std::string(value));
  return member != nullptr && member->real_containing_oneof() != nullptr &&
                 member->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE
             ? member
             : nullptr;
}

bool IsText(const FieldDescriptor& field) {
  const bool duration = field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
                        field.message_type()->full_name() == "google.protobuf.Duration";
  return !field.is_repeated() && (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM ||
                                  field.cpp_type() == FieldDescriptor::CPPTYPE_STRING || duration);
}

std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}}), "\"");
}

std::vector<std::string> MemberNames(const FieldDescriptor& field) {
  std::vector<std::string> names;
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    for (int i = 1; i < field.enum_type()->value_count(); ++i) {
      names.push_back(field.enum_type()->value(i)->name());
    }
  } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    for (int i = 0; i < field.message_type()->field_count(); ++i) {
      if (field.message_type()->field(i)->real_containing_oneof() != nullptr) {
        names.push_back(field.message_type()->field(i)->name());
      }
    }
  }
  return names;
}

absl::Status NotAValue(const FieldDescriptor& field, absl::string_view value) {
  const std::vector<std::string> names = MemberNames(field);
  const bool json = absl::StartsWith(value, "{") || absl::StartsWith(value, "[");
  return Invalid(absl::StrCat(
      "\"", value, "\" is no value of ", field.name(), "; ",
      names.empty() || json ? "give JSON of this field" : common::NameHint(value, names)));
}

absl::Status SetLast(Message* message, const PathPart& part, absl::string_view value) {
  NORMLAB_ASSIGN_OR_RETURN(const FieldDescriptor* const field, FindField(*message, part.name));
  if (part.index >= 0) {
    return Invalid(
        "ends with an element of a list; give the whole list as JSON, or go on to a field of the "
        "element");
  }
  std::string json(value);
  if (const FieldDescriptor* const member = NamedMember(*field, value)) {
    json = absl::StrCat("{\"", member->name(), "\": {}}");
  } else if (IsText(*field) && !absl::StartsWith(value, "\"")) {
    json = Quoted(value);
  }
  // The parser of protobuf takes trailing text and single quotes for more than they are, so the value stands alone.
  const std::unique_ptr<Message> parsed(message->New());
  google::protobuf::util::JsonParseOptions options;
  options.case_insensitive_enum_parsing = false;
  const auto status = google::protobuf::util::JsonStringToMessage(
      absl::StrCat("{\"", field->name(), "\": ", json, "}"), parsed.get(), options);
  std::vector<const FieldDescriptor*> set;
  parsed->GetReflection()->ListFields(*parsed, &set);
  const bool only_this = set.empty() || (set.size() == 1 && set.front() == field);
  if (!status.ok() || !only_this) {
    return NotAValue(*field, value);
  }
  message->GetReflection()->ClearField(message, field);
  message->MergeFrom(*parsed);
  return absl::OkStatus();
}

// Cells that there will be; more than the limit is told as limit + 1.
int64_t CountCells(const v1::Design& design) {
  if (design.has_random()) {
    return design.random().cells();
  }
  if (!design.cells().empty()) {
    return design.cells_size();
  }
  int64_t cells = 1;
  for (const v1::Axis& axis : design.axes()) {
    cells = std::min<int64_t>(cells * axis.values_size(), kMaxExperimentJobs + 1);
  }
  return cells;
}

class Expander {
 public:
  Expander(const v1::JobSpec& base, const v1::Design& design) : base_(base), design_(design) {}

  ExpandedDesign Run() {
    CheckSeeds();
    CheckAxes();
    CheckRandom();
    CheckCells();
    CheckSize();
    if (result_.violations.empty()) {
      MakeCells();
    }
    if (!result_.violations.empty()) {
      result_.cells.clear();
    }
    return std::move(result_);
  }

 private:
  using Values = std::vector<std::pair<std::string, std::string>>;

  void Fail(std::string field, std::string description) {
    result_.violations.push_back({std::move(field), std::move(description)});
  }

  void CheckSeeds() {
    result_.seeds.assign(design_.seeds().begin(), design_.seeds().end());
    if (result_.seeds.empty()) {
      result_.seeds.push_back(base_.seed());
    }
    std::set<uint32_t> distinct;
    for (int i = 0; i < design_.seeds_size(); ++i) {
      if (!distinct.insert(design_.seeds(i)).second) {
        Fail(absl::StrCat("design.seeds[", i, "]"),
             absl::StrCat("is ", design_.seeds(i),
                          " again; equal seeds give equal runs, so give each once"));
      }
    }
  }

  void CheckAxes() {
    if (design_.axes_size() > kMaxAxes) {
      Fail("design.axes", absl::StrCat("has ", design_.axes_size(), " axes, but at most ", kMaxAxes,
                                       " are allowed; split the experiment"));
    }
    std::map<std::string, int> fields;
    for (int i = 0; i < design_.axes_size(); ++i) {
      const v1::Axis& axis = design_.axes(i);
      const std::string path = absl::StrCat("design.axes[", i, "]");
      if (axis.field() == "seed") {
        Fail(path + ".field",
             "is seed; give the seeds in design.seeds, so that they are averaged over");
      }
      const auto [first, added] = fields.emplace(axis.field(), i);
      if (!added) {
        Fail(path + ".field", absl::StrCat("is ", axis.field(), ", as that of axis ", first->second,
                                           "; merge the two"));
      }
      CheckValues(axis, path);
    }
  }

  void CheckValues(const v1::Axis& axis, const std::string& path) {
    if (axis.has_range()) {
      CheckRange(axis.range(), path + ".range");
      if (!axis.values().empty()) {
        Fail(path + ".values", "is given beside a range; keep one of the two");
      }
      if (!design_.has_random()) {
        Fail(path + ".range", "needs a random design; list values instead, or set design.random");
      }
    } else if (axis.values().empty()) {
      Fail(path + ".values", "is empty; give at least one value");
    } else if (axis.values_size() > kMaxValues) {
      Fail(path + ".values", absl::StrCat("has ", axis.values_size(), " values, but at most ",
                                          kMaxValues, " are allowed; use fewer"));
      return;
    }
    std::set<std::string> distinct;
    for (int n = 0; n < axis.values_size(); ++n) {
      const std::string field = absl::StrCat(path, ".values[", n, "]");
      if (!distinct.insert(axis.values(n)).second) {
        Fail(field, absl::StrCat("is \"", axis.values(n), "\" again; give each value once"));
      }
      // On the base alone; what an earlier axis chooses is seen when the cells are made.
      v1::JobSpec spec = base_;
      ApplyFirstValues(axis, spec);
      const absl::Status status = SetField(axis.field(), axis.values(n), spec);
      if (!status.ok()) {
        // A wrong path is wrong for every value.
        const bool of_field = !SetField(axis.field(), axis.values(0), spec).ok() && n == 0;
        Fail(of_field ? path + ".field" : field, std::string(status.message()));
        if (of_field) {
          return;
        }
      }
    }
  }

  // What the axes before `until` choose first.
  void ApplyFirstValues(const v1::Axis& until, v1::JobSpec& spec) const {
    for (const v1::Axis& axis : design_.axes()) {
      if (&axis == &until) {
        return;
      }
      if (!axis.values().empty()) {
        SetField(axis.field(), axis.values(0), spec).IgnoreError();
      }
    }
  }

  void CheckRange(const v1::Range& range, const std::string& path) {
    if (!std::isfinite(range.minimum()) || !std::isfinite(range.maximum()) ||
        range.minimum() >= range.maximum()) {
      Fail(path, absl::StrFormat("goes from %g to %g; give a smaller minimum than maximum",
                                 range.minimum(), range.maximum()));
    } else if (range.logarithmic() && range.minimum() <= 0) {
      Fail(path + ".minimum",
           absl::StrFormat("is %g, but a logarithmic range is above 0; raise it", range.minimum()));
    }
  }

  void CheckRandom() {
    if (!design_.has_random()) {
      return;
    }
    if (design_.random().cells() < 1) {
      Fail("design.random.cells", "must be at least 1; give how many cells to draw");
    }
    if (design_.axes().empty()) {
      Fail("design.axes", "is empty; give the fields that the random cells differ in");
    }
  }

  void CheckCells() {
    if (!design_.cells().empty() && (!design_.axes().empty() || design_.has_random())) {
      Fail("design.cells", "is given beside axes; keep one of the two");
    }
  }

  void CheckSize() {
    const int64_t cells = CountCells(design_);
    const auto seeds = static_cast<int64_t>(result_.seeds.size());
    if (cells * seeds > kMaxExperimentJobs) {
      Fail("design", absl::StrCat("has ", cells > kMaxExperimentJobs ? "more than " : "",
                                  std::min<int64_t>(cells, kMaxExperimentJobs), " cells and ",
                                  seeds, seeds == 1 ? " seed" : " seeds",
                                  ", but an experiment has at most ", kMaxExperimentJobs,
                                  " jobs; use fewer values or seeds, or draw cells at random"));
    }
  }

  void MakeCells() {
    if (design_.has_random()) {
      for (int i = 0; i < design_.random().cells(); ++i) {
        Add(Draw(i), absl::StrCat("design (random cell ", i, ")"));
      }
    } else if (!design_.cells().empty()) {
      for (int i = 0; i < design_.cells_size(); ++i) {
        const std::map<std::string, std::string> sorted(design_.cells(i).values().begin(),
                                                        design_.cells(i).values().end());
        Add(Values(sorted.begin(), sorted.end()), absl::StrCat("design.cells[", i, "]"));
      }
    } else {
      const int64_t cells = CountCells(design_);
      for (int64_t i = 0; i < cells; ++i) {
        Add(Combination(i), "design.axes");
      }
    }
  }

  Values Combination(int64_t index) const {
    Values values(static_cast<size_t>(design_.axes_size()));
    for (int a = design_.axes_size() - 1; a >= 0; --a) {
      const v1::Axis& axis = design_.axes(a);
      values[static_cast<size_t>(a)] = {axis.field(),
                                        axis.values(static_cast<int>(index % axis.values_size()))};
      index /= axis.values_size();
    }
    return values;
  }

  Values Draw(int index) const {
    const common::RandomStream random(design_.random().seed(), "experiment");
    Values values;
    for (int a = 0; a < design_.axes_size(); ++a) {
      const v1::Axis& axis = design_.axes(a);
      const double u = random.Uniform(static_cast<uint64_t>(index), static_cast<uint64_t>(a));
      values.emplace_back(axis.field(),
                          axis.has_range() ? InRange(axis.range(), u)
                                           : axis.values(static_cast<int>(u * axis.values_size())));
    }
    return values;
  }

  static std::string InRange(const v1::Range& range, double u) {
    const double value = range.logarithmic()
                             ? range.minimum() * std::pow(range.maximum() / range.minimum(), u)
                             : range.minimum() + (range.maximum() - range.minimum()) * u;
    return range.integer() ? absl::StrCat(static_cast<int64_t>(std::llround(value)))
                           : absl::StrFormat("%.6g", value);
  }

  void Add(Values values, const std::string& where) {
    DesignCell cell = {.values = std::move(values), .spec = base_};
    for (const auto& [field, value] : cell.values) {
      const absl::Status status = SetField(field, value, cell.spec);
      if (!status.ok()) {
        Fail(where, absl::StrCat(field, " = ", value, ": ", status.message()));
        return;
      }
    }
    result_.cells.push_back(std::move(cell));
  }

  const v1::JobSpec& base_;
  const v1::Design& design_;
  ExpandedDesign result_;
};

}  // namespace

absl::Status SetField(absl::string_view path, absl::string_view value, v1::JobSpec& spec) {
  if (path.empty()) {
    return Invalid("is empty; give the path of a field, for example optimizer.sgd.learning_rate");
  }
  Message* message = &spec;
  const std::vector<absl::string_view> parts = absl::StrSplit(path, '.');
  // A failure leaves the spec as it was.
  v1::JobSpec changed = spec;
  message = &changed;
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    NORMLAB_ASSIGN_OR_RETURN(const PathPart part, ParsePart(parts[i]));
    NORMLAB_ASSIGN_OR_RETURN(message, Descend(message, part));
  }
  NORMLAB_ASSIGN_OR_RETURN(const PathPart last, ParsePart(parts.back()));
  NORMLAB_RETURN_IF_ERROR(SetLast(message, last, value));
  spec.Swap(&changed);
  return absl::OkStatus();
}

ExpandedDesign ExpandDesign(const v1::JobSpec& base, const v1::Design& design) {
  return Expander(base, design).Run();
}

}  // namespace normlab::server
