#include "client/lib/spec_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "client/lib/source_text.h"
#include "client/lib/spec_binder.h"
#include "client/lib/text_proto.h"
#include "common/name_hint.h"

#include "yaml-cpp/depthguard.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/yaml.h"

namespace normlab::client {
namespace {

constexpr size_t kMaxBytes = 1 << 20;

// What messages call a file.
std::string ShownName(const std::string& path) {
  return path == "-" ? "<stdin>" : path;
}

SpecViolation Unreadable(const std::string& path, absl::string_view why) {
  return {.where = {.source = path},
          .description = absl::StrCat("cannot be read: ", why,
                                      "; give the path of a spec file, or - for standard input")};
}

// Notes where documents begin, and nothing else.
class DocumentFinder final : public YAML::EventHandler {
 public:
  const std::vector<YAML::Mark>& marks() const { return marks_; }

  void OnDocumentStart(const YAML::Mark& /*mark*/) override { begun_ = false; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override { Note(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override { Note(mark); }
  void OnScalar(const YAML::Mark& mark,
                const std::string& /*tag*/,
                YAML::anchor_t /*anchor*/,
                const std::string& /*value*/) override {
    Note(mark);
  }
  void OnSequenceStart(const YAML::Mark& mark,
                       const std::string& /*tag*/,
                       YAML::anchor_t /*anchor*/,
                       YAML::EmitterStyle::value /*style*/) override {
    Note(mark);
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& mark,
                  const std::string& /*tag*/,
                  YAML::anchor_t /*anchor*/,
                  YAML::EmitterStyle::value /*style*/) override {
    Note(mark);
  }
  void OnMapEnd() override {}

 private:
  void Note(const YAML::Mark& mark) {
    if (!begun_) {
      marks_.push_back(mark);
    }
    begun_ = true;
  }

  bool begun_ = false;
  std::vector<YAML::Mark> marks_;
};

// Where the first two documents of a text begin, as far as there are any. YAML::LoadAll would find
// documents without end, until memory is full, at a comma behind the end of a JSON object.
std::vector<YAML::Mark> FirstDocuments(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentFinder finder;
  for (int i = 0; i < 2 && parser.HandleNextDocument(finder); ++i) {
  }
  return finder.marks();
}

// Merges the document into `message`, a part of the result's spec that people call `path`.
void ParseYaml(const SourceText& source,
               google::protobuf::Message& message,
               const std::string& path,
               absl::string_view when_empty,
               SpecResult& result) {
  const auto add = [&](const YAML::Mark& mark, std::string description) {
    result.violations.push_back({.where = source.At(mark), .description = std::move(description)});
  };
  try {
    const std::vector<YAML::Mark> documents = FirstDocuments(source.yaml());
    const YAML::Node document = documents.empty() ? YAML::Node() : YAML::Load(source.yaml());
    if (documents.size() > 1) {
      const auto offset = static_cast<size_t>(documents[1].pos);
      const char begin = offset < source.yaml().size() ? source.yaml()[offset] : ' ';
      add(documents[1], begin == '}' || begin == ']' || begin == ','
                            ? "stands after the end of the document; remove it, or a closing "
                              "bracket too many before it"
                            : "a second document begins here; put each spec into its own file");
      return;
    }
    if (document.IsNull()) {
      add({}, absl::StrCat("is empty; ", when_empty));
      return;
    }
    SpecBinder(source, result.violations, result.document.positions)
        .BindMessage(document, message, path);
  } catch (const YAML::DeepRecursion& error) {
    add(error.mark, "is nested too deeply; flatten it");
  } catch (const YAML::Exception& error) {
    add(error.mark, absl::StrCat("is neither YAML nor JSON: ", error.msg,
                                 "; look for a missing quote, comma, bracket or space after a "
                                 "colon here or just before"));
  }
}

// Adds what stands against reading `text` as a document at all; false then.
bool CheckText(const std::string& name, absl::string_view text, SpecResult& result) {
  if (text.size() > kMaxBytes) {
    result.violations.push_back(
        {.where = {.source = name},
         .description = absl::StrCat("is longer than ", kMaxBytes,
                                     " bytes; a spec has some hundred, so check the path")});
    return false;
  }
  if (const std::optional<size_t> invalid = FirstInvalidUtf8(text)) {
    const SourceText before(name, text.substr(0, *invalid));
    result.violations.push_back({.where = before.AtOffset(before.yaml().size()),
                                 .description = "is not UTF-8 text; save the file as UTF-8"});
    return false;
  }
  return true;
}

// The text of a file ("-": of `standard_input`), cut after one byte more than allowed; nothing when it
// cannot be read, which is then a violation.
std::optional<std::string> ReadText(const std::string& path,
                                    std::istream& standard_input,
                                    SpecResult& result) {
  std::ifstream file;
  std::error_code error;
  if (path != "-") {
    if (std::filesystem::is_directory(path, error)) {
      result.violations.push_back(Unreadable(path, "it is a folder"));
      return std::nullopt;
    }
    errno = 0;
    file.open(path, std::ios::binary);
    if (!file) {
      result.violations.push_back(Unreadable(path, std::strerror(errno)));
      return std::nullopt;
    }
  }
  std::istream& input = path == "-" ? standard_input : file;
  // One byte more than allowed tells "too long" without reading an endless stream.
  std::string text(kMaxBytes + 1, '\0');
  input.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(input.gcount()));
  if (input.bad()) {
    result.violations.push_back(Unreadable(path, "an input error"));
    return std::nullopt;
  }
  return text;
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
  if (!CheckText(name, text, result)) {
    return result;
  }
  if (format == SpecFormat::kTextProto) {
    ParseTextProto(name, std::string(text), result.document, result.violations);
  } else {
    ParseYaml(SourceText(name, text), result.document.spec, "",
              "a spec needs at least model and data", result);
  }
  return result;
}

SpecResult ReadSpecFile(const std::string& path, std::istream& standard_input) {
  SpecResult result;
  const std::optional<std::string> text = ReadText(path, standard_input, result);
  return text.has_value() ? ParseSpec(ShownName(path), *text, FormatOfFile(path)) : result;
}

SpecResult ReadNormalizer(const std::string& name,
                          const std::string& argument,
                          std::istream& standard_input) {
  SpecResult result;
  normlab::v1::Normalizer& normalizer = *result.document.spec.mutable_normalization();
  const auto* kind = FindField(*normalizer.GetDescriptor(), argument);
  if (kind != nullptr && IsMessageChoice(*kind)) {
    normalizer.GetReflection()->MutableMessage(&normalizer, kind);
    return result;
  }
  const absl::string_view trimmed = absl::StripLeadingAsciiWhitespace(argument);
  const bool written_out = absl::StartsWith(trimmed, "{") || absl::StrContains(argument, ": ") ||
                           absl::StrContains(argument, "\n");
  std::error_code error;
  if (!written_out && argument != "-" && argument.find_first_of("/.") == std::string::npos &&
      !std::filesystem::exists(argument, error)) {
    std::vector<std::string> kinds;
    for (int i = 0; i < normalizer.GetDescriptor()->field_count(); ++i) {
      const auto* field = normalizer.GetDescriptor()->field(i);
      if (IsMessageChoice(*field)) {
        kinds.push_back(field->name());
      }
    }
    result.violations.push_back(
        {.where = {.source = name},
         .description = absl::StrCat(argument, " is neither a kind of normalizer nor a file; ",
                                     common::NameHint(argument, kinds))});
    return result;
  }
  const std::optional<std::string> text =
      written_out ? argument : ReadText(argument, standard_input, result);
  const std::string source = written_out ? name : ShownName(argument);
  if (text.has_value() && CheckText(source, *text, result)) {
    ParseYaml(SourceText(source, *text), normalizer, "normalizer", "write for example {batch: {}}",
              result);
  }
  return result;
}

}  // namespace normlab::client
