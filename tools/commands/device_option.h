// --device of the commands that use a run's model.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <vector>

#include "recipes/schema/recipe_keys.h"

namespace lacuna::tools {

// auto (the default), cpu or cuda, as train.device of a recipe.
inline void AddDeviceOption(CLI::App* command, DeviceChoice* choice) {
  *choice = DeviceChoice::kAuto;
  std::vector<std::string> names;
  for (const auto& [name, value] : NamesOf<DeviceChoice>()) names.emplace_back(name);
  command
      ->add_option_function<std::string>(
          "--device",
          [choice](const std::string& given) {
            for (const auto& [name, value] : NamesOf<DeviceChoice>()) {
              if (given == name) *choice = value;
            }
          },
          "Where the model computes, auto: a CUDA card if there is one for it, else the CPU")
      ->check(CLI::IsMember(names))
      ->default_str("auto");
}

}  // namespace lacuna::tools
