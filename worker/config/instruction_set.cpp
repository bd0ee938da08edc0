#include "worker/config/instruction_set.h"

#include <cstdlib>
#include <string>

#include "worker/config/error.h"

namespace anneal::config {
namespace {

bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool HasAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

}  // namespace

InstructionSet ChooseInstructionSet() {
  const char* asked = std::getenv("ANNEAL_CPU_KERNELS");
  if (!asked || !*asked)
    return HasAvx512() ? InstructionSet::kAvx512 : HasAvx2() ? InstructionSet::kAvx2 : InstructionSet::kScalar;
  const std::string name = asked;
  if (name == "scalar") return InstructionSet::kScalar;
  if (name != "avx2" && name != "avx512") {
    throw ConfigError("environment variable ANNEAL_CPU_KERNELS='" + name + "': one of scalar, avx2, avx512");
  }
  if (name == "avx2" ? !HasAvx2() : !HasAvx512()) {
    throw ConfigError("environment variable ANNEAL_CPU_KERNELS='" + name + "': this CPU lacks it");
  }
  return name == "avx2" ? InstructionSet::kAvx2 : InstructionSet::kAvx512;
}

}  // namespace anneal::config
