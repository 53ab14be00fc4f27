// A check for options that are regular expressions (std::regex, ECMAScript's grammar).
#pragma once

#include <CLI/CLI.hpp>
#include <regex>
#include <string>

namespace lacuna {

inline CLI::Validator IsRegex() {
  return CLI::Validator(
      [](const std::string& text) -> std::string {
        try {
          const std::regex expression(text);
          return {};
        } catch (const std::regex_error& error) {
          return text + " is not a regular expression: " + error.what();
        }
      },
      "REGEX");
}

}  // namespace lacuna
