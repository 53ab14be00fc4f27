// Attention to selected blocks for Hopper (sm_90a): bf16. The contract is that of
// nsa/selected_attention.h.
#pragma once

#include "nsa/selected_attention.h"

namespace lacuna::cuda {
struct Chunk;       // nsa/cuda/list_chunks.cuh
struct ListChunks;  // there
}  // namespace lacuna::cuda

namespace lacuna::cuda::hopper {

// (Dk, Dv) of (192, 128) and (128, 128), blocks of 64 tokens, heads in groups of 8, 16, 32 or 64.
bool Supports(const SelectedAttentionFwdArgs&, Stream);

// Only what Supports says yes to. Keys that a row does not see weigh 0 in its sum, so they are to be
// finite, also those of a neighbouring document.
void SelectedAttentionFwd(const SelectedAttentionFwdArgs&, Stream);

// As above. Rows, too, are to be finite.
bool Supports(const SelectedAttentionBwdArgs&, Stream);
// delta: [N, H] f32, do . o.
void SelectedDq(const SelectedAttentionBwdArgs&, const float* delta, Stream);

// The tokens that chose each block of each group (nsa/cuda/inverted_lists.cuh), and a grid's chunks of
// them (nsa/cuda/list_chunks.cuh).
struct ChosenTokens {
  const int64_t* starts;
  const int32_t* rows;
  int64_t num_blocks;
  const ListChunks* of_list;
  const Chunk* chunks;
  int num_chunks;
};
// dk and dv of the lists of one chunk; of the chunks of the others dk (with the scale) and dv to
// partial [sums, 64, Dk + Dv] f32. Those of empty lists are left as they are.
void SelectedDkv(const SelectedAttentionBwdArgs&, const float* delta, const ChosenTokens&,
                 float* partial, Stream);

}  // namespace lacuna::cuda::hopper
