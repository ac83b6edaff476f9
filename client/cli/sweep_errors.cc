#include "client/cli/sweep_errors.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace normlab::client {

std::string InTermsOfOptions(absl::string_view text, const normlab::v1::Experiment& experiment) {
  std::vector<std::pair<std::string, std::string>> words;
  // The longest that fits is taken, so the order does not matter.
  const normlab::v1::Design& design = experiment.design();
  for (int a = 0; a < design.axes_size(); ++a) {
    const std::string path = absl::StrCat("design.axes[", a, "]");
    const std::string option = absl::StrCat("--axis ", design.axes(a).field());
    for (const char* const part : {"", ".field", ".values", ".range", ".range.minimum"}) {
      words.emplace_back(path + part, option);
    }
    for (int v = 0; v < design.axes(a).values_size(); ++v) {
      words.emplace_back(absl::StrCat(path, ".values[", v, "]"),
                         absl::StrCat(option, ", value ", v + 1));
    }
  }
  for (int s = 0; s < design.seeds_size(); ++s) {
    words.emplace_back(absl::StrCat("design.seeds[", s, "]"),
                       absl::StrCat("--seeds, number ", s + 1));
  }
  for (int c = 0; c < design.cells_size(); ++c) {
    words.emplace_back(absl::StrCat("design.cells[", c, "]"), absl::StrCat("--cells, cell ", c));
  }
  for (const auto& [path, option] :
       {std::pair{"design.axes", "--axis"}, std::pair{"design.seeds", "--seeds"},
        std::pair{"design.random.cells", "--random"}, std::pair{"design.random", "--random"},
        std::pair{"design.cells", "--cells"}, std::pair{"): design: ", "): the sweep "},
        std::pair{"experiment cannot be accepted", "sweep cannot be accepted"},
        std::pair{"Correct the named fields and submit again",
                  "Correct what is named and repeat "
                  "the command"}}) {
    words.emplace_back(path, option);
  }
  return absl::StrReplaceAll(text, words);
}

}  // namespace normlab::client
