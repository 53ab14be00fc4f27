// Suggestions for misspelt names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lacuna {

// Edits (insert, delete, replace, swap of neighbours) that turn a into b; case does not count, '-'
// equals '_'.
int EditDistance(std::string_view a, std::string_view b);

// The candidate nearest to `name`, the first of equals; empty where none is near enough to be what
// was meant (at most a third of the longer name, and at least 2, edits).
std::string NearestName(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace lacuna
