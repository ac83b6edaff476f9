#pragma once

#include "client/cli/context.h"

#include "CLI/App.hpp"

namespace normlab::client {

// Each adds one subcommand to `app`; when the command line names it, `selected` is set to what runs
// it. `selected` must outlive the parsing.
void AddSubmitCommand(CLI::App& app, Command& selected);
void AddSweepCommand(CLI::App& app, Command& selected);
void AddExperimentCommand(CLI::App& app, Command& selected);
void AddCompareCommand(CLI::App& app, Command& selected);
void AddValidateCommand(CLI::App& app, Command& selected);
void AddWatchCommand(CLI::App& app, Command& selected);
void AddLogsCommand(CLI::App& app, Command& selected);
void AddListCommand(CLI::App& app, Command& selected);
void AddGetCommand(CLI::App& app, Command& selected);
void AddCancelCommand(CLI::App& app, Command& selected);
void AddPauseCommand(CLI::App& app, Command& selected);
void AddResumeCommand(CLI::App& app, Command& selected);
void AddUpdateCommand(CLI::App& app, Command& selected);
void AddDeleteCommand(CLI::App& app, Command& selected);
void AddMetricsCommand(CLI::App& app, Command& selected);
void AddArtifactsCommand(CLI::App& app, Command& selected);
void AddNormalizeCommand(CLI::App& app, Command& selected);
void AddStudyCommand(CLI::App& app, Command& selected);
void AddReportCommand(CLI::App& app, Command& selected);
void AddTokenCommand(CLI::App& app, Command& selected);
void AddDoctorCommand(CLI::App& app, Command& selected);
void AddTopCommand(CLI::App& app, Command& selected);
void AddExportCommand(CLI::App& app, Command& selected);
void AddCompletionCommand(CLI::App& app, Command& selected);
void AddVersionCommand(CLI::App& app, Command& selected);

}  // namespace normlab::client
