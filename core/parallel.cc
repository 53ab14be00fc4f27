#include "core/parallel.h"

#include <cblas.h>

namespace lacuna {

void SetNumThreads(int threads) {
  omp_set_num_threads(threads);
  openblas_set_num_threads(threads);
}

void MakeThisThreadSerial() {
  omp_set_num_threads(1);
}

int NumThreads() {
  return omp_get_max_threads();
}

}  // namespace lacuna
