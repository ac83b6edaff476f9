#pragma once

namespace normlab::client::report {

// Files of client/report/assets as the build found them; UTF-8, zero-terminated, constant.

extern const char kVegaScript[];  // Vega with its licence; defines `vega` and needs nothing else
extern const char kPageStyle[];   // CSS of the page
extern const char kPageScript[];  // draws the page's charts; runs after kVegaScript
extern const char
    kDrawSvgScript[];  // for node, after kVegaScript: a spec from stdin to SVG on stdout

}  // namespace normlab::client::report
