// Encodes many texts for tests/data/tokenizer_parity_test.py.
//
//   tokenizer_batch FILE text|parse < TEXTS > IDS
//     FILE is a tokenizer.json; special tokens' strings in the texts are text, or become ids.
//     A text is its number of bytes (u32) and its bytes; its ids are their number (u32) and each
//     as i32. Little-endian.
//   tokenizer_batch code-points
//     The code points that Unicode 14 assigns, the surrogates left out, a line each.
#include <unicode/uniset.h>

#include <cstdio>
#include <string>
#include <vector>

#include "data/tokenizer/tokenizer.h"

namespace lacuna {
namespace {

int PrintCodePoints() {
  UErrorCode error = U_ZERO_ERROR;
  const icu::UnicodeSet set(u"[[:Age=14.0:]-[:Cs:]]", error);
  if (U_FAILURE(error)) return 1;
  for (int32_t r = 0; r < set.getRangeCount(); ++r) {
    for (UChar32 c = set.getRangeStart(r); c <= set.getRangeEnd(r); ++c)
      std::printf("%d\n", static_cast<int>(c));
  }
  return 0;
}

int EncodeAll(const char* path, SpecialTokens specials) {
  const auto tokenizer = Tokenizer::Load(path);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", std::string(tokenizer.status().message()).c_str());
    return 3;
  }
  std::string text;
  std::vector<int32_t> ids;
  for (uint32_t size = 0; std::fread(&size, sizeof(size), 1, stdin) == 1;) {
    text.resize(size);
    ids.clear();
    if (std::fread(text.data(), 1, size, stdin) != size) return 1;
    if (!tokenizer->Encode(text, &ids, specials).ok()) return 1;
    const uint32_t count = static_cast<uint32_t>(ids.size());
    std::fwrite(&count, sizeof(count), 1, stdout);
    // An empty vector may have no address, which fwrite must not be given.
    if (count > 0) std::fwrite(ids.data(), sizeof(int32_t), count, stdout);
  }
  return 0;
}

}  // namespace
}  // namespace lacuna

int main(int argc, char** argv) {
  using namespace lacuna;
  if (argc == 2 && std::string(argv[1]) == "code-points") return PrintCodePoints();
  if (argc != 3) return 2;
  return EncodeAll(
      argv[1], std::string(argv[2]) == "parse" ? SpecialTokens::kParse : SpecialTokens::kAsText);
}
