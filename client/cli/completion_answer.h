#pragma once

#include <string>

#include "client/cli/completion.h"
#include "client/cli/context.h"

namespace normlab::client {

// What a completion script reads: a line ":files" or ":none", then a candidate a line, with a tab
// and a description where there is one. Asks the server where the plan needs it, for a second at
// most, and leaves out what it does not get: nobody who presses Tab wants to read an error.
// `strip`: as many characters of each candidate's front are left out.
std::string CompletionAnswer(const CompletionPlan& plan, CommandContext& context, size_t strip);

}  // namespace normlab::client
