#pragma once

#include <cstdint>
#include <string>

#include "client/cli/context.h"
#include "client/cli/interrupt.h"
#include "client/lib/client.h"

namespace normlab::client {

enum class WatchOutput {
  kRecords,   // what watch prints: live, lines or JSON, as the options and the terminal say
  kFinalJob,  // nothing but the job at its end, as one JSON document
  kNothing,   // only the exit code says how it ended
};

// Watches a job to its end, prints it, and returns the exit code: how the job ended, why the watch
// failed, or 128 + the signal that stopped it (the job runs on, and the text says how to come
// back).
int WatchToEnd(CommandContext& context,
               Client& client,
               const InterruptScope& interrupt,
               const std::string& name,
               int64_t after_sequence,
               WatchOutput output);

// How to go on after an interruption, as one line on standard error; returns 128 + signal.
int ReportInterruption(CommandContext& context, int signal, const std::string& hint);

// The job's training loss as a chart, or nothing when there are no points.
std::string LossChart(Client& client, const Output& out, const std::string& name);

}  // namespace normlab::client
