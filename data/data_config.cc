#include "data/data_config.h"

#include <fmt/format.h>

#include <cmath>
#include <unordered_set>

namespace lacuna {
namespace {

// Names and paths of the elements of one list; names stand in logs and metrics, so two of a name
// would be one curve.
template <class T>
void CheckElements(const std::string& list, const std::vector<T>& elements,
                   std::vector<std::string>* violations) {
  std::unordered_set<std::string> names;
  for (size_t i = 0; i < elements.size(); ++i) {
    const std::string element = fmt::format("{}[{}]", list, i);
    if (elements[i].name.empty())
      violations->push_back(fmt::format("{}.name = \"\": must be given", element));
    if (elements[i].path.empty())
      violations->push_back(
          fmt::format("{}.path = \"\": must be given: a shard, a folder or a glob", element));
    if (!elements[i].name.empty() && !names.insert(elements[i].name).second) {
      violations->push_back(fmt::format("{}.name = {}: must be unlike the names before it", element,
                                        elements[i].name));
    }
  }
}

}  // namespace

void DataConfig::Validate(const std::string& section, std::vector<std::string>* violations) const {
  if (tokenizer.empty())
    violations->push_back(
        fmt::format("{}.tokenizer = \"\": must be given: a tokenizer.json", section));
  if (sources.empty())
    violations->push_back(fmt::format("{}.sources = []: must list at least one source", section));
  CheckElements(section + ".sources", sources, violations);
  CheckElements(section + ".validation", validation, violations);
  for (size_t i = 0; i < sources.size(); ++i) {
    const double weight = sources[i].weight;
    if (!(std::isfinite(weight) && weight > 0)) {
      violations->push_back(
          fmt::format("{}.sources[{}].weight = {}: must be above 0", section, i, weight));
    }
  }
}

}  // namespace lacuna
