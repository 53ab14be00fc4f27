// The preflight table and its warnings, of ranks that are made up.
#include "recipes/trainer/preflight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/status.h"

namespace lacuna {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kGib = int64_t{1} << 30;

// `count` ranks of one host with a card each, all of which reach each other.
std::vector<PreflightRow> Node(int count, const std::string& host = "node1") {
  std::vector<PreflightRow> rows;
  for (int r = 0; r < count; ++r) {
    PreflightRow row{.host = host,
                     .card = r,
                     .device = "NVIDIA H200",
                     .id = host + std::to_string(r),
                     .architecture = "sm_90",
                     .memory = 140 * kGib,
                     .free_memory = 139 * kGib,
                     .planned_memory = 110 * kGib,
                     .driver = 13000,
                     .runtime = 12080,
                     .nccl = "2.28.3",
                     .mpi = "Open MPI v4.1.4",
                     .binary = "80-real, 90a-real"};
    for (int other = 0; other < count; ++other) {
      if (other != r) row.peers[host + std::to_string(other)] = true;
    }
    rows.push_back(row);
  }
  return rows;
}

TEST(Preflight, OneRowARank) {
  EXPECT_THAT(
      PreflightTable(Node(2)),
      ElementsAre(
          "  rank  host   device         memory      free        arch   CUDA driver  runtime  "
          "peers   NCCL, MPI",
          "  0     node1  0 NVIDIA H200  140.00 GiB  139.00 GiB  sm_90  13.0         12.8     "
          "1 of 1  2.28.3, Open MPI v4.1.4",
          "  1     node1  1 NVIDIA H200  140.00 GiB  139.00 GiB  sm_90  13.0         12.8     "
          "1 of 1  2.28.3, Open MPI v4.1.4"));
}

TEST(Preflight, RanksOnTheCpuHaveNoColumnsOfCards) {
  const PreflightRow row{.host = "a",
                         .device = "CPU",
                         .memory = 8 * kGib,
                         .free_memory = 5 * kGib,
                         .mpi = "Open MPI v4.1.4"};
  EXPECT_THAT(PreflightTable({row, row}),
              ElementsAre("  rank  host  device  memory    free      NCCL, MPI",
                          "  0     a     CPU     8.00 GiB  5.00 GiB  Open MPI v4.1.4",
                          "  1     a     CPU     8.00 GiB  5.00 GiB  Open MPI v4.1.4"));
  EXPECT_THAT(PreflightWarnings({row, row}), IsEmpty());
}

TEST(Preflight, NothingOddIsNothingSaid) {
  EXPECT_THAT(PreflightWarnings(Node(8)), IsEmpty());
  std::vector<PreflightRow> two = Node(4), second = Node(4, "node2");
  two.insert(two.end(), second.begin(), second.end());
  EXPECT_THAT(PreflightWarnings(two), IsEmpty());
  EXPECT_TRUE(PreflightRefusal(two).ok());
}

TEST(Preflight, WhatDiffersIsNamedWithItsRanks) {
  auto rows = Node(8);
  rows[3].device = rows[7].device = "NVIDIA H100";
  rows[5].driver = 12040;
  rows[0].nccl = "2.30.3";
  rows[1].runtime = 13010;
  rows[2].mpi = "Open MPI v5.0.1";
  EXPECT_THAT(
      PreflightWarnings(rows),
      ElementsAre("cards differ: NVIDIA H200 (ranks 0-2, 4-6), NVIDIA H100 (ranks 3, 7): a step "
                  "takes as long as its slowest rank",
                  "CUDA drivers differ: 13.0 (ranks 0-4, 6-7), 12.4 (rank 5)",
                  "CUDA runtimes differ: 12.8 (ranks 0, 2-7), 13.1 (rank 1): not all ranks run the "
                  "same program",
                  "NCCL versions differ: 2.30.3 (rank 0), 2.28.3 (ranks 1-7): they need not "
                  "understand each other",
                  "MPI libraries differ: Open MPI v4.1.4 (ranks 0-1, 3-7), Open MPI v5.0.1 (rank "
                  "2)"));
}

TEST(Preflight, CardsThatDoNotReachEachOther) {
  auto rows = Node(4);
  for (const auto& [a, b] : {std::pair{0, 2}, {0, 3}, {1, 2}, {1, 3}}) {
    rows[static_cast<size_t>(a)].peers[rows[static_cast<size_t>(b)].id] = false;
    rows[static_cast<size_t>(b)].peers[rows[static_cast<size_t>(a)].id] = false;
  }
  EXPECT_THAT(PreflightWarnings(rows),
              ElementsAre("node1: 4 of 6 pairs of cards do not reach each other's memory (ranks 0 "
                          "and 2 first): what they exchange goes through the host's"));
  EXPECT_THAT(PreflightTable(rows)[1], testing::HasSubstr("  1 of 3  "));
  // A launcher that shows each rank its own card alone leaves it unknown.
  for (PreflightRow& row : rows) row.peers.clear();
  EXPECT_THAT(PreflightWarnings(rows), IsEmpty());
  EXPECT_THAT(PreflightTable(rows)[1], testing::HasSubstr("  ?  "));
}

TEST(Preflight, MemoryThatOthersHoldAndCardsThatAreShared) {
  auto rows = Node(3);
  rows[1].free_memory = 90 * kGib;
  rows[2].id = rows[0].id;
  EXPECT_THAT(PreflightWarnings(rows),
              ElementsAre("ranks 0 and 2 share a card, NVIDIA H200 on node1",
                          "rank 1: 90.00 GiB of 140.00 GiB are free on its NVIDIA H200, the plan "
                          "needs 110.00 GiB: is another program on the card?"));
}

TEST(Preflight, ACardWithoutKernelsIsRefused) {
  auto rows = Node(2);
  rows[1].architecture = "sm_75";
  rows[1].device = "Tesla T4";
  rows[1].kernel_failure = "no kernel image is available for execution on the device";
  const absl::Status refused = PreflightRefusal(rows);
  EXPECT_EQ(ExitCodeOf(refused), ExitCode::kHardware);
  EXPECT_EQ(Message(refused),
            "rank 1: no kernel runs on its Tesla T4 (sm_75 on node1), this program has them for "
            "80-real, 90a-real (CMAKE_CUDA_ARCHITECTURES): no kernel image is available for "
            "execution on the device");
}

}  // namespace
}  // namespace lacuna
