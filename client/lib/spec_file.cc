#include "client/lib/spec_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "client/lib/source_text.h"
#include "client/lib/spec_binder.h"
#include "client/lib/text_proto.h"

#include "yaml-cpp/depthguard.h"
#include "yaml-cpp/yaml.h"

namespace normlab::client {
namespace {

constexpr size_t kMaxBytes = 1 << 20;

SpecViolation Unreadable(const std::string& path, absl::string_view why) {
  return {.where = {.source = path},
          .description = absl::StrCat("cannot be read: ", why,
                                      "; give the path of a spec file, or - for standard input")};
}

void ParseYaml(const SourceText& source, SpecResult& result) {
  const auto add = [&](const YAML::Mark& mark, std::string description) {
    result.violations.push_back({.where = source.At(mark), .description = std::move(description)});
  };
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(source.yaml());
    if (documents.empty() || documents.front().IsNull()) {
      add({}, "is empty; a spec needs at least model and data");
      return;
    }
    if (documents.size() > 1) {
      add(documents[1].Mark(), "a second document begins here; put each spec into its own file");
      return;
    }
    SpecBinder(source, result.violations, result.document.positions)
        .BindMessage(documents.front(), result.document.spec, "");
  } catch (const YAML::DeepRecursion& error) {
    add(error.mark, "is nested too deeply; flatten it");
  } catch (const YAML::Exception& error) {
    add(error.mark, absl::StrCat("is neither YAML nor JSON: ", error.msg,
                                 "; look for a missing quote, comma, bracket or space after a "
                                 "colon here or just before"));
  }
}

}  // namespace

SpecFormat FormatOfFile(absl::string_view path) {
  for (const absl::string_view ending : {".textproto", ".txtpb", ".pbtxt", ".prototxt"}) {
    if (absl::EndsWithIgnoreCase(path, ending)) {
      return SpecFormat::kTextProto;
    }
  }
  return SpecFormat::kYaml;
}

SpecResult ParseSpec(const std::string& name, absl::string_view text, SpecFormat format) {
  SpecResult result;
  if (text.size() > kMaxBytes) {
    result.violations.push_back(
        {.where = {.source = name},
         .description = absl::StrCat("is longer than ", kMaxBytes,
                                     " bytes; a spec has some hundred, so check the path")});
    return result;
  }
  if (const std::optional<size_t> invalid = FirstInvalidUtf8(text)) {
    const SourceText before(name, text.substr(0, *invalid));
    result.violations.push_back({.where = before.AtOffset(before.yaml().size()),
                                 .description = "is not UTF-8 text; save the file as UTF-8"});
    return result;
  }
  if (format == SpecFormat::kTextProto) {
    ParseTextProto(name, std::string(text), result.document, result.violations);
  } else {
    ParseYaml(SourceText(name, text), result);
  }
  return result;
}

SpecResult ReadSpecFile(const std::string& path, std::istream& standard_input) {
  SpecResult result;
  std::ifstream file;
  std::error_code error;
  if (path != "-") {
    if (std::filesystem::is_directory(path, error)) {
      result.violations.push_back(Unreadable(path, "it is a folder"));
      return result;
    }
    errno = 0;
    file.open(path, std::ios::binary);
    if (!file) {
      result.violations.push_back(Unreadable(path, std::strerror(errno)));
      return result;
    }
  }
  std::istream& input = path == "-" ? standard_input : file;
  // One byte more than allowed tells "too long" without reading an endless stream.
  std::string text(kMaxBytes + 1, '\0');
  input.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(input.gcount()));
  if (input.bad()) {
    result.violations.push_back(Unreadable(path, "an input error"));
    return result;
  }
  return ParseSpec(path, text, FormatOfFile(path));
}

}  // namespace normlab::client
