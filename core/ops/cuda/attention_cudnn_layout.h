// What cuDNN's attention needs beside our tensors: where packed documents start, and log-sum-exps
// by heads. POD only.
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/length_classes.h"

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

  static int64_t Bytes(int64_t documents);  // a multiple of 16
  RaggedLayout() = default;
  RaggedLayout(void* memory, int64_t documents);
};

// The documents of a length class, in their order, `slots` in each of its layouts; what the last
// one has too many are empty.
struct ClassLayouts {
  int32_t longer_than, at_most;  // tokens
  int64_t documents;             // that there are of these lengths
  int64_t slots;
  char* memory;                  // runs() layouts, one after the other

  int64_t runs() const { return (documents + slots - 1) / slots; }
  int64_t bytes() const { return runs() * RaggedLayout::Bytes(slots); }
  RaggedLayout Run(int64_t run) const {
    return RaggedLayout(memory + run * RaggedLayout::Bytes(slots), slots);
  }
};
struct AllLayouts {
  ClassLayouts of_class[kLengthClasses];
  int count = 0;
};

// From the rows `cu` [given + 1] of all documents.
void FillLayouts(const AllLayouts& layouts, const int32_t* cu, int64_t given,
                 const RowWidths& widths, Stream stream);

// in [rows, columns] -> out [columns, rows].
void TransposeMatrix(const float* in, int64_t rows, int64_t columns, float* out, Stream stream);

}  // namespace lacuna::cuda
