#include "client/cli/completion.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "CLI/Option.hpp"

namespace normlab::client {
namespace {

// The command of `app` called `name`; null: none.
const CLI::App* FindCommand(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command :
       app.get_subcommands([](const CLI::App* /*any*/) { return true; })) {
    if (command->check_name(name)) {
      return command;
    }
  }
  return nullptr;
}

// The option of a word like --server or -o, of `app` or of what it belongs to; null: none.
const CLI::Option* FindOption(const CLI::App* app, const std::string& word) {
  for (; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      if (!option->get_positional() && option->check_name(word)) {
        return option;
      }
    }
  }
  return nullptr;
}

bool TakesValue(const CLI::Option& option) {
  return option.get_items_expected_max() > 0;
}

// The positional that the argument after `given` others stands for; null: there is none.
const CLI::Option* PositionalAt(const CLI::App& app, size_t given) {
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_positional()) {
      continue;
    }
    if (given == 0 || option->get_items_expected_max() > 1) {
      return option;
    }
    --given;
  }
  return nullptr;
}

// How a positional or the value of an option is called in help: JOB, FILE, ...
std::string PlaceName(const CLI::Option& option) {
  return option.get_positional() ? option.get_name(/*positional=*/true) : option.get_type_name();
}

// What an argument or a value of an option may be, told by how help describes it.
CompletionSource SourceOf(const CLI::Option& option) {
  const std::string place = PlaceName(option);
  const std::string description = option.get_description();
  const bool takes_experiments = absl::StrContains(description, "experiments/ID");
  if (absl::StrContains(description, "jobs/ID")) {
    return takes_experiments ? CompletionSource::kJobsAndExperiments : CompletionSource::kJobs;
  }
  if (absl::StartsWithIgnoreCase(description, "A study") ||
      absl::StartsWith(description, "One or more studies")) {
    return CompletionSource::kStudies;
  }
  if (takes_experiments) {
    return CompletionSource::kExperiments;
  }
  if (option.check_name("--series")) {
    return CompletionSource::kSeries;
  }
  for (const char* files : {"FILE", "SPEC", "ARRAY", "PLACE", "DIR"}) {
    if (absl::StartsWith(place, files)) {
      return CompletionSource::kFiles;
    }
  }
  return CompletionSource::kNone;
}

// Options of `app` and of what it belongs to, long names where there are any.
void AddOptions(const CLI::App& app, std::vector<CompletionCandidate>& candidates) {
  for (const CLI::App* one = &app; one != nullptr; one = one->get_parent()) {
    for (const CLI::Option* option : one->get_options()) {
      if (option->get_positional() || option->get_group().empty()) {
        continue;
      }
      for (const std::string& name : option->get_lnames()) {
        const std::string word = absl::StrCat("--", name);
        const bool is_there =  // --help is an option of every command
            std::any_of(candidates.begin(), candidates.end(),
                        [&](const CompletionCandidate& other) { return other.value == word; });
        if (!is_there) {
          candidates.push_back({word, option->get_description()});
        }
      }
      if (option->get_lnames().empty()) {
        for (const std::string& name : option->get_snames()) {
          candidates.push_back({absl::StrCat("-", name), option->get_description()});
        }
      }
    }
  }
}

// What the value of `option` may be, when `word` of it is there so far.
void PlanValue(const CLI::Option& option,
               const std::string& prefix,
               const std::string& word,
               CompletionPlan& plan) {
  plan.prefix = prefix;
  plan.typed = word;
  plan.source = SourceOf(option);
  for (const std::string& value : FixedValues(option)) {
    plan.fixed.push_back({value, ""});
  }
  if (plan.source == CompletionSource::kSeries) {  // a list: complete its last element
    const size_t comma = word.rfind(',');
    if (comma != std::string::npos) {
      absl::StrAppend(&plan.prefix, word.substr(0, comma + 1));
      plan.typed = word.substr(comma + 1);
    }
  }
}

}  // namespace

std::vector<std::string> FixedValues(const CLI::Option& option) {
  std::vector<std::string> values;
  // The description of CLI::IsMember is {one,two}; a place after the last validator throws.
  for (int i = 0;; ++i) {
    std::string description;
    try {
      description = const_cast<CLI::Option&>(option).get_validator(i)->get_description();
    } catch (const CLI::OptionNotFound&) {
      return values;
    }
    absl::string_view list = description;
    if (absl::ConsumePrefix(&list, "{") && absl::ConsumeSuffix(&list, "}")) {
      values = absl::StrSplit(list, ',');
    }
  }
}

CompletionPlan PlanCompletion(const CLI::App& app, const std::vector<std::string>& words) {
  CompletionPlan plan;
  const CLI::App* command = &app;
  const CLI::Option* wants_value = nullptr;  // the option before, when its value has to follow
  bool options_are_over = false;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (wants_value != nullptr) {
      wants_value = nullptr;
    } else if (!options_are_over && word == "--") {
      options_are_over = true;
    } else if (!options_are_over && word.size() > 1 && word[0] == '-') {
      const CLI::Option* const option = FindOption(command, word.substr(0, word.find('=')));
      if (option != nullptr && TakesValue(*option) && !absl::StrContains(word, '=')) {
        wants_value = option;
      }
    } else if (const CLI::App* const inner = FindCommand(*command, word);
               inner != nullptr && plan.arguments.empty()) {
      command = inner;
    } else {
      plan.arguments.push_back(word);
    }
  }
  const std::string last = words.empty() ? "" : words.back();
  plan.typed = last;
  if (wants_value != nullptr) {
    PlanValue(*wants_value, "", last, plan);
    return plan;
  }
  const size_t equals = last.find('=');
  if (!options_are_over && absl::StartsWith(last, "--") && equals != std::string::npos) {
    const CLI::Option* const option = FindOption(command, last.substr(0, equals));
    if (option != nullptr && TakesValue(*option)) {
      PlanValue(*option, last.substr(0, equals + 1), last.substr(equals + 1), plan);
    }
    return plan;
  }
  if (!options_are_over && absl::StartsWith(last, "-")) {
    AddOptions(*command, plan.fixed);
    return plan;
  }
  if (plan.arguments.empty()) {
    for (const CLI::App* inner :
         command->get_subcommands([](const CLI::App* /*any*/) { return true; })) {
      if (!inner->get_name().empty() && !inner->get_group().empty()) {
        plan.fixed.push_back({inner->get_name(), inner->get_description()});
      }
    }
  }
  if (const CLI::Option* const place = PositionalAt(*command, plan.arguments.size())) {
    PlanValue(*place, "", last, plan);
  }
  return plan;
}

std::vector<std::string> JoinBashWords(const std::vector<std::string>& words) {
  std::vector<std::string> joined;
  bool glue = false;
  for (const std::string& word : words) {
    const bool is_break = word == "=" || word == ":";
    if ((is_break || glue) && !joined.empty()) {
      joined.back() += word;
    } else {
      joined.push_back(word);
    }
    glue = is_break;
  }
  return joined;
}

}  // namespace normlab::client
