// A safetensors file: its metadata and its tensors' names, types, shapes and sizes.
#pragma once

#include <string>

#include "tools/inspect/kind.h"

namespace lacuna::tools {

class SafetensorsView : public InspectKind {
 public:
  std::string name() const override { return "safetensors file (*.safetensors)"; }
  std::string example() const override { return "inspect export/model.safetensors"; }
  bool Recognises(const std::string& path, std::string_view head) const override;
  void AddOptions(CLI::App&) override {}
  // Errors: SafetensorsReader::Open's.
  absl::Status Show(const InspectOptions& options) const override;
};

}  // namespace lacuna::tools
