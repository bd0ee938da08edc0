#include "worker/data/sampler/sampling_request.h"

namespace anneal::data {

std::mt19937_64 SamplingRequest::Random() const {
  std::seed_seq all{static_cast<uint32_t>(seed),        static_cast<uint32_t>(seed >> 32),
                    static_cast<uint32_t>(rank),        static_cast<uint32_t>(worker),
                    static_cast<uint32_t>(pass),        static_cast<uint32_t>(number),
                    static_cast<uint32_t>(number >> 32)};
  return std::mt19937_64(all);
}

}  // namespace anneal::data
