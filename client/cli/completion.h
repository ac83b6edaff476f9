#pragma once

#include <string>
#include <vector>

#include "CLI/App.hpp"

namespace normlab::client {

// What may stand at a place of a command line that only a server or the shell knows.
enum class CompletionSource {
  kNone,
  kFiles,
  kJobs,
  kExperiments,
  kJobsAndExperiments,
  kSeries,
  kStudies
};

struct CompletionCandidate {
  std::string value;
  std::string description;  // may be empty
};

// What can follow the words of a command line.
struct CompletionPlan {
  // Commands, options and fixed values; not yet compared with `typed`.
  std::vector<CompletionCandidate> fixed;
  CompletionSource source = CompletionSource::kNone;
  std::string prefix;  // of the last word that every candidate gets in front ("--output=", "a,b,")
  std::string typed;   // the rest of the last word
  // Words given for arguments so far, for example the job whose series are wanted.
  std::vector<std::string> arguments;
};

// Plans the completion of the last of `words` (without the program's name; the last one may be
// empty) from the commands and options of `app` themselves, so that it cannot lag behind them.
// Thread-safe as long as nobody changes `app`.
CompletionPlan PlanCompletion(const CLI::App& app, const std::vector<std::string>& words);

// The values of an option that has a list of them ({csv,jsonl}); empty: anything else.
std::vector<std::string> FixedValues(const CLI::Option& option);

// The script that tells a shell (bash, zsh or fish) to ask this program; empty for another name.
std::string CompletionScript(const std::string& shell);

// bash takes "=" and ":" for words of their own: the words as they were typed. Thread-safe.
std::vector<std::string> JoinBashWords(const std::vector<std::string>& words);

}  // namespace normlab::client
