// lacuna selftest: does training on these ranks compute what one rank computes?
#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "core/status.h"
#include "core/stream.h"
#include "distributed/device_assignment.h"
#include "distributed/device_communicator.h"
#include "distributed/steady_clock.h"
#include "recipes/trainer/device.h"
#include "recipes/trainer/self_test.h"
#include "tools/command.h"
#include "tools/commands/device_option.h"
#include "tools/commands/regex_option.h"
#include "tools/ranks.h"

namespace lacuna::tools {
namespace {

struct Options {
  DeviceChoice device = DeviceChoice::kAuto;
  SelfTestOptions test;
};

constexpr double kSecondsBetweenSteps = 10;  // that are shown, so that a slow link is seen early

absl::StatusOr<Device> DeviceOf(const Options& options, Communicator& comm) {
  if (options.device == DeviceChoice::kCpu) return kCpu;
  const absl::StatusOr<int> card = AssignDevice(comm);
  if (card.ok()) return CudaDevice(*card);
  if (options.device == DeviceChoice::kAuto) return kCpu;
  return card.status();
}

absl::Status Test(const Options& options, const std::shared_ptr<Communicator>& host) {
  LACUNA_ASSIGN_OR_RETURN(const Device device, DeviceOf(options, *host));
  const std::shared_ptr<Communicator> comm = ForDevice(host, device);
  const bool leader = comm->rank() == 0;
  if (leader)
    fmt::print("{} rank{} on {}\n", comm->size(), comm->size() == 1 ? "" : "s", Describe(device));
  SelfTestOptions test = options.test;
  if (leader) {
    test.on_row = [first = true](const SelfTestRow& row) mutable {
      fmt::print("{}{}", std::exchange(first, false) ? TitleLine() : "", Line(row));
      std::fflush(stdout);
    };
    test.on_step = [last = SteadyClock::now(), &options](const std::string& what,
                                                         int64_t step) mutable {
      if (SecondsSince(last) < kSecondsBetweenSteps) return;
      last = SteadyClock::now();
      fmt::print(stderr, "  {}: step {} of {}\n", what, step, options.test.steps);
    };
  }
  LACUNA_ASSIGN_OR_RETURN(const SelfTestResult result, RunSelfTest(*comm, device, test));
  if (leader) fmt::print("{} in {:.1f} s\n", result.passed() ? "passed" : "FAILED", result.seconds);
  if (result.passed()) return absl::OkStatus();
  return MakeError(ExitCode::kNumerics,
                   "selftest: ranks compute something else than one rank does; "
                   "LACUNA_GPU_COLLECTIVES=staged tells whether it is NCCL, "
                   "LACUNA_CHECK_COLLECTIVES=1 whether ranks call the same");
}

}  // namespace

void AddSelftestCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "selftest", "Train a tiny model on these ranks and on one: loss, gradients, routing");
  AddDeviceOption(command, &options->device);
  command->add_option("--steps", options->test.steps, "Optimizer steps of each way of sharing")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--dtype", options->test.dtype,
                   "Of the model, one of the two that are tested alone")
      ->transform(CLI::CheckedTransformer(std::map<std::string, DType>{
          {"f64", DType::kF64}, {"f32", DType::kF32}, {"bf16", DType::kBF16}}));
  command
      ->add_option("--match", options->test.match,
                   "only ways of sharing in whose line this regular expression is found: zero 3, "
                   "^bf16, experts over 8")
      ->check(IsRegex());
  command->footer("Example: mpirun -n 8 --bind-to none lacuna selftest");
  command->callback([options, &run] {
    run = [options] {
      UseThreads(0, FromLauncher());
      return OnRanks(
          [&](const std::shared_ptr<Communicator>& comm) { return Test(*options, comm); });
    };
  });
}

}  // namespace lacuna::tools
