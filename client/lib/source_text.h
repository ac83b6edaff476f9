#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "client/lib/spec_violation.h"

#include "yaml-cpp/mark.h"

namespace normlab::client {

// Offset of the first byte of `text` that is not part of well-formed UTF-8; nothing when all is
// well. Thread-safe.
std::optional<size_t> FirstInvalidUtf8(absl::string_view text);

// The text of a spec in the form that yaml-cpp reads, and the way back from its marks to what the
// author sees: lines and columns of characters, from 1. Immutable, so thread-safe.
class SourceText {
 public:
  // `name` is a file name or "-"; `text` must be UTF-8. A byte order mark is dropped, and JSON's
  // escaped surrogate pairs, which yaml-cpp refuses, become the character that they stand for.
  SourceText(std::string name, absl::string_view text);

  // Of text without lines, such as an option of the command line: positions have none either.
  static SourceText WithoutLines(std::string name, absl::string_view text);

  const std::string& name() const { return name_; }
  const std::string& yaml() const { return yaml_; }

  SourcePosition At(const YAML::Mark& mark) const;
  // The position of a byte of yaml().
  SourcePosition AtOffset(size_t offset) const;

 private:
  std::string name_;
  std::string yaml_;
  bool has_lines_ = true;
  std::vector<size_t> line_starts_;      // offsets into yaml_
  std::vector<size_t> surrogate_pairs_;  // offsets of characters that were written as two escapes
};

}  // namespace normlab::client
