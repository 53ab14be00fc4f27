// Where a run computes, or a finished one is used.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/device.h"
#include "distributed/communicator.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

// train.device made concrete for this rank. A configuration error where the recipe asks for a card
// that is not there, or for what no CUDA kernel takes: the line names the key, what was found and
// what is supported.
// Every rank of `comm` calls it: all compute on cards (distributed/device_assignment.h says on which)
// or none does.
absl::StatusOr<Device> ChooseDevice(const Recipe& recipe, Communicator& comm);
// The same of another choice, for one rank. `asked` ("--device cuda") begins the error's line.
absl::StatusOr<Device> ChooseDevice(DeviceChoice choice, const Recipe& recipe,
                                    std::string_view asked);

// Tokens of the longest document with which the recipe's gradients have the same bits in two runs
// on `device`; the largest int64 where length does not matter.
int64_t LongestDeterministicDocument(const Recipe& recipe, Device device);
// A configuration error where train.deterministic cannot be kept for documents as long as a sample.
absl::Status CheckDeterminism(const Recipe& recipe, int64_t longest);

// "NVIDIA H200 (sm_90, 139.8 GiB)", or "CPU, 16 threads".
std::string Describe(Device device);

}  // namespace lacuna
