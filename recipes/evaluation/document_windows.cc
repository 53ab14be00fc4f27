#include "recipes/evaluation/document_windows.h"

#include <algorithm>

namespace lacuna {

std::vector<Window> MakeWindows(const TokenCorpus& corpus, int64_t length, int64_t context,
                                int64_t first_position, int64_t max_pieces, int64_t* pieces) {
  const int64_t first = std::max<int64_t>(first_position, 1), half = context / 2;
  std::vector<Window> windows;
  int64_t count = 0;
  for (int64_t document = 0; document < corpus.num_documents(); ++document) {
    const int64_t tokens = corpus.Find(document).length;
    for (int64_t piece = 0; piece + first < tokens; piece += length) {
      if (max_pieces > 0 && count == max_pieces) break;
      const int64_t end = std::min(piece + length, tokens);
      if (piece + first >= end) continue;
      ++count;
      if (context == 0) {
        windows.push_back({document, piece, piece, end, piece + first});
        continue;
      }
      for (int64_t target = piece + first; target < end; target += half)
        windows.push_back({document, piece, std::max(piece, target - half),
                           std::min(target + half, end), target});
    }
  }
  if (pieces != nullptr) *pieces = count;
  return windows;
}

}  // namespace lacuna
