// The instruction set that this process's own kernels are run for.
#pragma once

#include <string_view>

namespace anneal::config {

/// Each has those before it, too.
enum class InstructionSet { kScalar, kAvx2, kAvx512, kAmx };

/// The widest that the CPU has, or what ANNEAL_CPU_KERNELS (scalar, avx2, avx512, amx) asks for; throws ConfigError
/// when that is none of them or the CPU lacks it.
InstructionSet ChooseInstructionSet();

/// Whether this CPU and the kernel run kernels of that name: scalar, avx2, avx512, amx (bfloat16 products on tiles). No
/// other names.
bool CpuRuns(std::string_view kernels);

/// Of the kernels that each of these gives, those of ChooseInstructionSet(). Only that one is called: the others are
/// compiled for what the CPU may lack.
template <typename Kernels>
const Kernels& Choose(const Kernels& (*scalar)(), const Kernels& (*avx2)(), const Kernels& (*avx512)(),
                      const Kernels& (*amx)()) {
  using Function = const Kernels& (*)();
  const Function of_sets[] = {scalar, avx2, avx512, amx};
  return of_sets[static_cast<int>(ChooseInstructionSet())]();
}
/// The same where tiles are no use.
template <typename Kernels>
const Kernels& Choose(const Kernels& (*scalar)(), const Kernels& (*avx2)(), const Kernels& (*avx512)()) {
  return Choose(scalar, avx2, avx512, avx512);
}

}  // namespace anneal::config
