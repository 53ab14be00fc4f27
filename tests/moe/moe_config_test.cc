#include "moe/moe_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace lacuna {
namespace {

using testing::ElementsAre;

std::vector<std::string> Violations(const MoeConfig& config) {
  std::vector<std::string> violations;
  config.Validate("moe", &violations);
  return violations;
}

TEST(MoeConfig, DefaultsAreValid) {
  EXPECT_THAT(Violations({}), ElementsAre());
  EXPECT_THAT(Violations({.router = RouterKind::kSoftmax,
                          .aux_loss = AuxLossScope::kSequence,
                          .aux_loss_coef = 0.01,
                          .z_loss_coef = 1e-3}),
              ElementsAre());
  EXPECT_THAT(
      Violations(
          {.num_experts = 1, .experts_per_token = 1, .num_shared = 0, .normalize_weights = false}),
      ElementsAre());
}

TEST(MoeConfig, ReportsEveryViolationAtOnce) {
  EXPECT_THAT(Violations({.num_experts = 4,
                          .experts_per_token = 5,
                          .expert_width = 0,
                          .num_shared = -1,
                          .routed_scale = 0,
                          .bias_update_rate = -0.1,
                          .aux_loss_coef = 0.01,
                          .z_loss_coef = std::numeric_limits<double>::quiet_NaN()}),
              ElementsAre("moe.experts_per_token = 5: must be 1 to moe.num_experts = 4",
                          "moe.expert_width = 0: must be at least 1",
                          "moe.num_shared = -1: must be at least 0",
                          "moe.routed_scale = 0: must be above 0",
                          "moe.bias_update_rate = -0.1: must be 0 or above",
                          "moe.aux_loss_coef = 0.01: must be 0 where moe.aux_loss is none",
                          "moe.z_loss_coef = nan: must be 0 or above"));
}

TEST(MoeConfig, ABalanceLossNeedsACoefficient) {
  EXPECT_THAT(
      Violations({.aux_loss = AuxLossScope::kGlobalBatch}),
      ElementsAre("moe.aux_loss_coef = 0: must be above 0 where moe.aux_loss is global_batch"));
}

TEST(MoeConfig, OneNormalisedWeightWouldNeverTrainTheRouter) {
  EXPECT_THAT(
      Violations({.experts_per_token = 1}),
      ElementsAre("moe.normalize_weights = true: must be false where moe.experts_per_token is 1 "
                  "(the router would get no gradient)"));
}

}  // namespace
}  // namespace lacuna
