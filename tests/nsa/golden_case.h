// The golden cases of an independent float64 reference (tests/nsa/golden/*.npz) as problems for the
// operator.
#pragma once

#include <map>
#include <string>

#include "tests/nsa/nsa_case.h"
#include "tests/support/npz.h"

namespace lacuna::test {

using GoldenArrays = std::map<std::string, NpzArray>;

GoldenArrays LoadGolden(const std::string& name);
// Inputs rounded to `dtype`, on the CPU.
NsaCase GoldenCase(const GoldenArrays& arrays, DType dtype);
// The parameters `prefix`.* of a golden case.
void FillPhi(const GoldenArrays& arrays, const std::string& prefix, DType dtype,
             PhiWithStorage* phi);

}  // namespace lacuna::test
