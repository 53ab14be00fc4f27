#include "moe/experts.h"

namespace lacuna {

Experts::Experts(int64_t num_experts, int64_t width, int64_t hidden, double init_std,
                 double down_std, ExpertRank place) {
  LACUNA_CHECK(num_experts % place.size == 0, "{} experts on {} ranks", num_experts, place.size);
  const int64_t here = num_experts / place.size;
  const auto add = [&](const char* name, int64_t rows, int64_t columns, double std) {
    Parameter& parameter = AddParameter(name, {here, rows, columns}, Init::Normal(std));
    parameter.gradient_can_be_set = true;
    if (place.size > 1)
      parameter.part =
          ParameterPart{{num_experts, rows, columns}, place.rank * here * rows * columns};
    return &parameter;
  };
  gate_up_ = add("gate_up_proj.weight", 2 * hidden, width, init_std);
  down_ = add("down_proj.weight", width, hidden, down_std);
}

Variable Experts::Forward(Tape& tape, const DispatchedTokens& in, bool output_is_read) {
  return RoutedExperts(tape, in.x, in.weights, in.rows, *gate_up_, *down_, in.traffic,
                       output_is_read);
}

}  // namespace lacuna
