# Writes a C++ file that holds the report's assets: Vega's modules as one script that needs nothing else, and our own page
# parts. Usage: cmake -DOUTPUT=assets.cc -DVEGA=/usr/share/javascript/vega -DASSETS=folder -P embed.cmake

# In the order of their needs. Only what the charts use: no maps, no force layouts, no word clouds.
set(modules
  util time format loader canvas dataflow scale scenegraph statistics expression event-selector selection functions
  transforms view-transforms encode parser runtime view interpreter)

file(READ "${ASSETS}/vega-license.txt" license)
set(bundle "/*!\n${license}*/\n(function () {\n'use strict';\nvar modules = {}, loaded = {};\n")
string(APPEND bundle "function require(name) {\n  if (!loaded[name]) { loaded[name] = {}; modules[name](loaded[name], {}, require); }\n  return loaded[name];\n}\n")
foreach(module IN LISTS modules)
  file(READ "${VEGA}/vega-${module}.min.js" text)
  string(REGEX REPLACE "\n?//# sourceMappingURL=[^\n]*\n?" "" text "${text}")
  # The file is called vega-selection, the module vega-selections.
  string(REGEX REPLACE "^selection$" "selections" name "${module}")
  string(APPEND bundle "modules['vega-${name}'] = function (exports, module, require) {\n${text}\n};\n")
endforeach()
string(APPEND bundle "var vega = require('vega-dataflow'), table = vega.transforms;\n")
string(APPEND bundle "['vega-transforms', 'vega-view-transforms', 'vega-encode'].forEach(function (name) {\n  var found = require(name);\n  Object.keys(found).forEach(function (key) { table[key] = found[key]; });\n});\n")
string(APPEND bundle "globalThis.vega = {parse: require('vega-parser').parse, View: require('vega-view').View,\n  expressionInterpreter: require('vega-interpreter').expressionInterpreter};\n})();\n")

# A script element ends at the first of these, wherever it stands.
if(bundle MATCHES "</[sS][cC][rR][iI][pP][tT]|<!--")
  message(FATAL_ERROR "Vega's modules cannot be put into a page as they are")
endif()

set(out "// Made by client/report/assets/embed.cmake.\n#include \"client/report/assets.h\"\n\nnamespace normlab::client::report {\n")
function(emit name text)
  if(text MATCHES "\\)__asset\"")
    message(FATAL_ERROR "${name} cannot be a raw string")
  endif()
  set(out "${out}\nconst char ${name}[] = R\"__asset(${text})__asset\";\n" PARENT_SCOPE)
endfunction()
emit(kVegaScript "${bundle}")
file(READ "${ASSETS}/report.css" text)
emit(kPageStyle "${text}")
file(READ "${ASSETS}/report.js" text)
emit(kPageScript "${text}")
file(READ "${ASSETS}/draw_svg.js" text)
emit(kDrawSvgScript "${text}")
string(APPEND out "\n}  // namespace normlab::client::report\n")
file(WRITE "${OUTPUT}" "${out}")
