#include "engine/spec/checker.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "engine/spec/limits.h"

namespace normlab::engine {
namespace {

bool IsControl(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

bool StartsCharacter(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
}

}  // namespace

void Checker::Fail(absl::string_view field, std::string description) {
  if (violations_.size() < static_cast<size_t>(kMaxViolations)) {
    violations_.push_back({std::string(field), std::move(description)});
  } else {
    ++left_out_;
  }
}

void Checker::Range(absl::string_view field,
                    int64_t value,
                    int64_t minimum,
                    int64_t maximum,
                    absl::string_view hint) {
  if (value < minimum || value > maximum) {
    Fail(field,
         absl::StrCat("is ", value, ", but must be from ", minimum, " to ", maximum, "; ", hint));
  }
}

void Checker::Real(absl::string_view field, double value, RealRange range, absl::string_view hint) {
  const bool above = range.open_minimum ? value > range.minimum : value >= range.minimum;
  const bool below = range.open_maximum ? value < range.maximum : value <= range.maximum;
  // Comparisons with NaN are false, so NaN fails here as well.
  if (above && below) {
    return;
  }
  Fail(field, absl::StrCat("is ", std::isnan(value) ? "NaN" : absl::StrCat(value),
                           ", but must be a finite number in ", range.open_minimum ? "(" : "[",
                           range.minimum, ", ", range.maximum, range.open_maximum ? ")" : "]", "; ",
                           hint));
}

void Checker::Enum(absl::string_view field,
                   int value,
                   const google::protobuf::EnumDescriptor* descriptor) {
  // proto3 enums are open: a client made from a newer contract can send any number.
  if (descriptor->FindValueByNumber(value) != nullptr) {
    return;
  }
  std::vector<std::string> names;
  for (int i = 0; i < descriptor->value_count(); ++i) {
    if (descriptor->value(i)->number() != 0) {
      names.push_back(descriptor->value(i)->name());
    }
  }
  Fail(field, absl::StrCat("has the unknown value ", value, "; use one of ",
                           absl::StrJoin(names, ", "), ", or leave it out for the default"));
}

void Checker::Text(absl::string_view field, absl::string_view value, int64_t max_characters) {
  const auto characters = std::count_if(value.begin(), value.end(), StartsCharacter);
  if (characters > max_characters) {
    Fail(field, absl::StrCat("has ", characters, " characters (", Quoted(value), "), but at most ",
                             max_characters, " are allowed; shorten it"));
  }
  if (std::any_of(value.begin(), value.end(), IsControl)) {
    Fail(field, absl::StrCat("is ", Quoted(value), ", which has control characters; remove them"));
  }
}

void Checker::Path(absl::string_view field, absl::string_view path) {
  if (std::any_of(path.begin(), path.end(), IsControl)) {
    Fail(field, absl::StrCat("is ", Quoted(path),
                             ", which has control characters; rename the file or folder"));
  }
  if (static_cast<int64_t>(path.size()) > kMaxPathBytes) {
    Fail(field, absl::StrCat("has ", path.size(), " bytes, but a path has at most ", kMaxPathBytes,
                             "; move the files to a shorter one"));
  }
}

std::vector<Violation> Checker::Take() {
  if (left_out_ > 0) {
    violations_.push_back(
        {"", absl::StrCat("and ", left_out_, " more violations; correct these first")});
    left_out_ = 0;
  }
  return std::exchange(violations_, {});
}

}  // namespace normlab::engine
