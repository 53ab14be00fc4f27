#include "core/profile_range.h"

#ifdef LACUNA_WITH_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

namespace lacuna {

#ifdef LACUNA_WITH_NVTX
void ProfileRange::Push(const char* name) {
  nvtxRangePushA(name);
}
void ProfileRange::Pop() {
  nvtxRangePop();
}
#else
void ProfileRange::Push(const char*) {}
void ProfileRange::Pop() {}
#endif

}  // namespace lacuna
