#include "client/lib/csv_field.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace normlab::client {

std::string CsvField(absl::string_view text) {
  return text.find_first_of(",\"\r\n") == absl::string_view::npos
             ? std::string(text)
             : absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

}  // namespace normlab::client
