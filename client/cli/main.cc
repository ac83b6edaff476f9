#include <clocale>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "client/cli/command_line.h"

int main(int argc, char** argv) {
  std::setlocale(LC_CTYPE, "");  // decides whether Unicode is printed
  // A closed pipe shows as an error of writing instead, which becomes the exit code.
  std::signal(SIGPIPE, SIG_IGN);
  return normlab::client::RunCommandLine(std::vector<std::string>(argv + 1, argv + argc), std::cin,
                                         stdout, stderr);
}
