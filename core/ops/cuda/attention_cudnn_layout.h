// What cuDNN's attention needs beside our tensors: where packed documents start, and log-sum-exps
// by heads. POD only.
#pragma once

#include <cstdint>

#include "core/device.h"

namespace lacuna::cuda {

// Numbers of elements in a row of each tensor.
struct RowWidths {
  int64_t q, k, v, o, lse;
};

// In device memory: the first element of each of `documents` documents in each tensor, and of what
// follows the last; and the documents' rows.
struct RaggedLayout {
  int64_t *q, *k, *v, *o, *lse;  // [documents + 1]
  int32_t* lengths;              // [documents]

  static int64_t Bytes(int64_t documents);
  RaggedLayout(void* memory, int64_t documents);
};

// From the rows `cu` [given + 1] of the given documents; documents beyond them are empty.
void FillRaggedLayout(const RaggedLayout& layout, const int32_t* cu, int64_t given,
                      int64_t documents, const RowWidths& widths, Stream stream);

// in [rows, columns] -> out [columns, rows].
void TransposeMatrix(const float* in, int64_t rows, int64_t columns, float* out, Stream stream);

}  // namespace lacuna::cuda
