#include "tools/inspect/safetensors_view.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>

#include "core/status.h"
#include "data/safetensors_reader.h"

namespace lacuna::tools {

bool SafetensorsView::Recognises(const std::string& path, std::string_view) const {
  return path.ends_with(".safetensors");
}

absl::Status SafetensorsView::Show(const InspectOptions& options) const {
  LACUNA_ASSIGN_OR_RETURN(const SafetensorsReader file, SafetensorsReader::Open(options.path));
  int64_t bytes = 0;
  size_t width = 4;
  for (const SafetensorsEntry& entry : file.tensors()) {
    bytes += entry.end - entry.begin;
    width = std::max(width, entry.name.size());
  }
  std::string text = fmt::format("{}: safetensors, header checked: {} tensors, {} bytes\n",
                                 options.path, file.tensors().size(), bytes);
  for (const auto& [key, value] : file.metadata()) text += fmt::format("  {}: {}\n", key, value);
  text += fmt::format("\n{:<{}}  {:>8}  {:>14}  shape\n", "name", width, "type", "bytes");
  for (const SafetensorsEntry& entry : file.tensors()) {
    text += fmt::format("{:<{}}  {:>8}  {:>14}  [{}]\n", entry.name, width, entry.type,
                        entry.end - entry.begin, fmt::join(entry.shape, ", "));
  }
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace lacuna::tools
