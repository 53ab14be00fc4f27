// Section `nsa` of a recipe: native sparse attention (arXiv 2502.11089), all lengths in tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lacuna {

enum class PhiKind { kMlp, kLinear, kMean };
enum class PhiStart { kRandom, kMeanKeys, kMean };
enum class PhiActivation { kSilu, kGeluTanh };

struct NsaConfig {
  int64_t block = 32;         // l, compression block
  int64_t stride = 16;        // d, compression stride; divides l and l'
  int64_t select_block = 64;  // l', selection block, >= l
  int64_t num_selected = 16;  // n, selected blocks, the forced ones included
  int64_t num_init = 1;       // forced: the first blocks
  int64_t num_local = 2;      // forced: the own block and those before it
  int64_t window = 512;       // w, the own token included
  PhiKind phi = PhiKind::kMlp;
  int64_t phi_hidden = 2;  // hidden width of phi's MLP in units of the head width
  PhiActivation activation = PhiActivation::kSilu;
  PhiStart phi_start = PhiStart::kRandom;  // of keys, of keys and values (nsa/phi.h)

  // Appends one line for every violated rule, naming `section`.key and value.
  void Validate(const std::string& section, std::vector<std::string>* violations) const;
};

}  // namespace lacuna
