// export_report.json and parity_probe.json: what was exported and how it compares, and numbers for
// checking the folder with another program (tools/check_export.py).
#pragma once

#include <string>
#include <vector>

#include "recipes/export/export_map.h"
#include "recipes/export/verify.h"

namespace lacuna {

struct ExportFacts {
  std::string checkpoint;  // path
  int64_t step = 0;
  ExportArchitecture architecture = ExportArchitecture::kGlm4Moe;
  DType dtype = DType::kBF16;
  int transformers = 5;
  int64_t bytes = 0;  // of tensors
  std::vector<std::string> files;
  std::vector<ExportTensor> map;
};

const char* ArchitectureName(ExportArchitecture architecture);  // "Glm4MoeForCausalLM"

// `rounding`: the model as trained against the model with the folder's weights.
std::string ExportReport(const ExportFacts& facts, const Probe& probe,
                         const Verification& verification, const LogitAgreement& rounding);

// Logits (of the layers that train, on the folder's weights) of some tokens of the probe and some
// ids of the vocabulary, the greedy continuations, and the blocks that were selected for both.
std::string ParityProbe(const Probe& probe, const ModelTrace& trained,
                        const Verification& verification, const NsaConfig& nsa);

}  // namespace lacuna
