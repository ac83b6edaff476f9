#include "server/api/job_filter.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

constexpr size_t kMaxFilterBytes = 8192;
constexpr size_t kMaxTerms = 64;
// Creation times are stored in whole microseconds.
constexpr absl::Duration kTimeUnit = absl::Microseconds(1);

constexpr absl::string_view kFields = "state, owner, experiment, labels.KEY and create_time";

bool IsFieldCharacter(char c) {
  return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == '.';
}

bool IsOperatorCharacter(char c) {
  return c == '=' || c == '<' || c == '>' || c == '!';
}

class Parser {
 public:
  explicit Parser(absl::string_view text) : text_(text) {}

  absl::StatusOr<JobFilter> Parse() {
    SkipSpaces();
    for (size_t terms = 0; position_ < text_.size(); ++terms) {
      if (terms == kMaxTerms) {
        return Fail(position_, absl::StrCat("has more than ", kMaxTerms, " terms; use fewer"));
      }
      if (terms > 0) {
        NORMLAB_RETURN_IF_ERROR(And());
      }
      NORMLAB_RETURN_IF_ERROR(Term());
      SkipSpaces();
    }
    return std::move(filter_);
  }

 private:
  // Characters are counted from 1, for people.
  absl::Status Fail(size_t position, absl::string_view problem) const {
    return InvalidArgument("filter", absl::StrCat("at character ", position + 1, ": ", problem));
  }

  void SkipSpaces() {
    while (position_ < text_.size() && absl::ascii_isspace(text_[position_])) {
      ++position_;
    }
  }

  template <typename Predicate>
  absl::string_view Take(Predicate predicate) {
    const size_t start = position_;
    while (position_ < text_.size() && predicate(text_[position_])) {
      ++position_;
    }
    return text_.substr(start, position_ - start);
  }

  absl::Status And() {
    const size_t start = position_;
    const absl::string_view word = Take([](char c) { return !absl::ascii_isspace(c); });
    if (word != "AND") {
      return Fail(
          start, absl::StrCat("expected AND but found ", QuotedForMessage(word),
                              "; terms are joined by AND, and a value with spaces stands in double "
                              "quotes (there is no OR and no NOT)"));
    }
    SkipSpaces();
    if (position_ == text_.size()) {
      return Fail(position_, "a term has to follow AND; add one or remove the AND");
    }
    return absl::OkStatus();
  }

  absl::Status Term() {
    const size_t field_start = position_;
    const absl::string_view field = Take(IsFieldCharacter);
    SkipSpaces();
    const size_t operator_start = position_;
    const absl::string_view op = Take(IsOperatorCharacter);
    if (field.empty() || op.empty()) {
      return Fail(field_start,
                  absl::StrCat("expected a term such as state=RUNNING; the fields are ", kFields));
    }
    SkipSpaces();
    const size_t value_start = position_;
    NORMLAB_ASSIGN_OR_RETURN(const std::string value, Value());

    if (field == "create_time") {
      return CreateTime(op, operator_start, value, value_start);
    }
    const bool is_label = absl::StartsWith(field, "labels.");
    if (field != "state" && field != "owner" && field != "experiment" && !is_label) {
      return Fail(field_start, absl::StrCat("there is no field ", QuotedForMessage(field),
                                            " to filter by; use one of ", kFields));
    }
    if (op != "=") {
      return Fail(operator_start, absl::StrCat(field, " can only be compared with =, not ", op,
                                               "; write ", field, "=VALUE"));
    }
    if (is_label) {
      return Label(field.substr(7), field_start, value);
    }
    if (field == "experiment") {
      return Experiment(value, value_start);
    }
    return field == "state" ? State(value, value_start) : Owner(value, value_start);
  }

  absl::StatusOr<std::string> Value() {
    if (position_ < text_.size() && text_[position_] == '"') {
      return QuotedValue();
    }
    const size_t start = position_;
    const absl::string_view word = Take([](char c) { return !absl::ascii_isspace(c) && c != '"'; });
    if (word.empty()) {
      return Fail(start, "expected a value; an empty one is written \"\"");
    }
    return std::string(word);
  }

  absl::StatusOr<std::string> QuotedValue() {
    const size_t start = position_++;
    std::string value;
    while (position_ < text_.size()) {
      const char c = text_[position_++];
      if (c == '"') {
        return value;
      }
      if (c != '\\') {
        value.push_back(c);
        continue;
      }
      if (position_ == text_.size() || (text_[position_] != '"' && text_[position_] != '\\')) {
        return Fail(position_ - 1, "a backslash may only stand before \" or \\; double it");
      }
      value.push_back(text_[position_++]);
    }
    return Fail(start, "this string has no end; add a closing double quote");
  }

  absl::Status State(const std::string& value, size_t position) {
    v1::Job::State state = v1::Job::STATE_UNSPECIFIED;
    if (!v1::Job::State_Parse(absl::AsciiStrToUpper(value), &state) ||
        state == v1::Job::STATE_UNSPECIFIED) {
      std::vector<std::string> names;
      for (int i = v1::Job::State_MIN + 1; i <= v1::Job::State_MAX; ++i) {
        names.push_back(v1::Job::State_Name(static_cast<v1::Job::State>(i)));
      }
      return Fail(position, absl::StrCat("there is no state ", QuotedForMessage(value),
                                         "; use one of ", absl::StrJoin(names, ", ")));
    }
    if (filter_.state.has_value() && *filter_.state != state) {
      return Fail(position, "a job has only one state; ask for one at a time");
    }
    filter_.state = state;
    return absl::OkStatus();
  }

  absl::Status Owner(const std::string& value, size_t position) {
    if (filter_.owner.has_value() && *filter_.owner != value) {
      return Fail(position, "a job has only one owner; ask for one at a time");
    }
    filter_.owner = value;
    return absl::OkStatus();
  }

  absl::Status Experiment(const std::string& value, size_t position) {
    if (!absl::StartsWith(value, "experiments/") || value.size() <= 12) {
      return Fail(position,
                  absl::StrCat(QuotedForMessage(value), " is no experiment; write experiments/ID"));
    }
    if (filter_.experiment.has_value() && *filter_.experiment != value) {
      return Fail(position, "a job has only one experiment; ask for one at a time");
    }
    filter_.experiment = value;
    return absl::OkStatus();
  }

  absl::Status Label(absl::string_view key, size_t position, const std::string& value) {
    if (key.empty()) {
      return Fail(position, "expected a key after labels., as in labels.study=explosion");
    }
    filter_.labels.emplace_back(key, value);
    return absl::OkStatus();
  }

  absl::Status CreateTime(absl::string_view op,
                          size_t operator_position,
                          const std::string& value,
                          size_t position) {
    absl::Time time;
    std::string error;
    // A day alone is its first moment, in UTC.
    if (!absl::ParseTime(absl::RFC3339_full, value, &time, &error) &&
        !absl::ParseTime("%Y-%m-%d", value, &time, &error)) {
      return Fail(position,
                  absl::StrCat(QuotedForMessage(value),
                               " is not a time; write it as 2026-01-31T00:00:00Z (RFC 3339), or "
                               "2026-01-31 for the beginning of a day in UTC"));
    }
    // In whole units, so that each comparison becomes one of the two that the store has.
    const absl::Time below = absl::FromUnixMicros(absl::ToUnixMicros(time));
    const absl::Time above = below == time ? below : below + kTimeUnit;
    if (op == ">=") {
      AtOrAfter(above);
    } else if (op == ">") {
      AtOrAfter(below + kTimeUnit);
    } else if (op == "<") {
      Before(above);
    } else if (op == "<=") {
      Before(below + kTimeUnit);
    } else {
      return Fail(operator_position,
                  absl::StrCat("create_time can be compared with >=, >, < and <=, not ", op));
    }
    return absl::OkStatus();
  }

  void AtOrAfter(absl::Time time) {
    filter_.created_at_or_after = std::max(filter_.created_at_or_after.value_or(time), time);
  }
  void Before(absl::Time time) {
    filter_.created_before = std::min(filter_.created_before.value_or(time), time);
  }

  const absl::string_view text_;
  size_t position_ = 0;
  JobFilter filter_;
};

}  // namespace

absl::StatusOr<JobFilter> ParseJobFilter(absl::string_view text) {
  if (text.size() > kMaxFilterBytes) {
    return InvalidArgument(
        "filter", absl::StrCat("has ", text.size(), " bytes; use at most ", kMaxFilterBytes));
  }
  return Parser(text).Parse();
}

}  // namespace normlab::server
