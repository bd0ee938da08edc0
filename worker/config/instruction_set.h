// The instruction set that this process's own kernels are run for.
#pragma once

#include <string_view>

namespace anneal::config {

enum class InstructionSet { kScalar, kAvx2, kAvx512 };

/// The widest that the CPU has, or what ANNEAL_CPU_KERNELS (scalar, avx2, avx512) asks for; throws ConfigError when
/// that is none of them or the CPU lacks it.
InstructionSet ChooseInstructionSet();

/// Whether this CPU runs kernels of that name: scalar, avx2, avx512. No other names.
bool CpuRuns(std::string_view kernels);

/// Of the kernels that each of these gives, those of ChooseInstructionSet(). Only that one is called: the others are
/// compiled for what the CPU may lack.
template <typename Kernels>
const Kernels& Choose(const Kernels& (*scalar)(), const Kernels& (*avx2)(), const Kernels& (*avx512)()) {
  const InstructionSet chosen = ChooseInstructionSet();
  return (chosen == InstructionSet::kAvx512 ? avx512 : chosen == InstructionSet::kAvx2 ? avx2 : scalar)();
}

}  // namespace anneal::config
