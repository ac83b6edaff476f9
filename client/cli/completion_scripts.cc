// What a shell has to be told. The scripts know nothing of our commands: they ask the program that
// is being completed, whose first line of answer says whether files fit too.
#include "client/cli/completion.h"

namespace normlab::client {
namespace {

constexpr char kBash[] = R"sh(# bash completion of normlab; made by: normlab completion bash
_normlab() {
  local line value
  local -a lines
  COMPREPLY=()
  mapfile -t lines < <("$1" __complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [ "${lines[0]}" = :files ]; then
    compopt -o filenames 2>/dev/null
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
  fi
  for line in "${lines[@]:1}"; do
    value=${line%%$'\t'*}
    COMPREPLY+=("$value")
  done
  # A list goes on after a comma.
  if [ "${#COMPREPLY[@]}" -eq 1 ] && [[ ${COMPREPLY[0]} == *, ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -F _normlab normlab
)sh";

constexpr char kZsh[] = R"sh(#compdef normlab
# zsh completion of normlab; made by: normlab completion zsh
_normlab() {
  local line value description ret=1
  local -a lines candidates
  lines=("${(@f)$("${words[1]}" __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  for line in "${(@)lines[2,-1]}"; do
    value=${line%%$'\t'*}
    description=
    [[ $line == *$'\t'* ]] && description=${line#*$'\t'}
    candidates+=("${value//:/\\:}${description:+:$description}")
  done
  (( ${#candidates} )) && _describe -V normlab candidates && ret=0
  [[ ${lines[1]} == :files ]] && _files && ret=0
  return ret
}
if [[ ${funcstack[1]-} == _normlab ]]; then
  _normlab "$@"
else
  compdef _normlab normlab
fi
)sh";

constexpr char kFish[] = R"sh(# fish completion of normlab; made by: normlab completion fish
function __normlab_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l lines (command $program __complete fish $words "$current" 2>/dev/null)
    if test "$lines[1]" = :files
        __fish_complete_path "$current"
    end
    set -e lines[1]
    for line in $lines
        echo $line
    end
end
complete -c normlab -f -a '(__normlab_complete)'
)sh";

}  // namespace

std::string CompletionScript(const std::string& shell) {
  return shell == "bash" ? kBash : shell == "zsh" ? kZsh : shell == "fish" ? kFish : "";
}

}  // namespace normlab::client
