// Loops over CPU threads. Work is cut by index alone, so results do not depend on the number of
// threads unless a caller sums over them; reductions go through fixed-size partials (ParallelFor
// over partials, then a serial sum).
#pragma once

#include <omp.h>

#include <cstdint>
#include <exception>

namespace lacuna {

// Threads of this rank, also for OpenBLAS (its OpenMP build runs single-threaded inside a parallel
// loop).
void SetNumThreads(int threads);
int NumThreads();
// Loops that this thread starts run on it alone; others' keep their threads.
void MakeThisThreadSerial();

// f(i) for i in [0, n), at most one thread where the work (n * cost, in rough operations) would not
// pay for waking others.
// An exception of one iteration is rethrown after the loop.
template <class F>
void ParallelFor(int64_t n, int64_t cost, F&& f) {
  constexpr int64_t kWorthWaking = 20000;
  if (n <= 1 || n * cost < kWorthWaking || omp_in_parallel() || omp_get_max_threads() == 1) {
    for (int64_t i = 0; i < n; ++i) f(i);
    return;
  }
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t i = 0; i < n; ++i) {
    try {
      f(i);
    } catch (...) {
#pragma omp critical(lacuna_parallel_failure)
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

// f(begin, end) over [0, n) in chunks of `chunk`; `cost` is per element.
template <class F>
void ParallelForChunks(int64_t n, int64_t chunk, int64_t cost, F&& f) {
  const int64_t chunks = (n + chunk - 1) / chunk;
  ParallelFor(chunks, chunk * cost, [&](int64_t c) {
    const int64_t begin = c * chunk;
    f(begin, begin + chunk < n ? begin + chunk : n);
  });
}

}  // namespace lacuna
