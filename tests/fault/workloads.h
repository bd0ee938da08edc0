// The lives of jobs that every fault plan disturbs.
#pragma once

#include <vector>

#include "tests/fault/world.h"

namespace anneal::fault {

const std::vector<Workload>& Workloads();
const Workload* FindWorkload(const std::string& name);

/// Random operations of users, random ends of workers: `seed` decides them all.
Workload Soak(unsigned seed);

}  // namespace anneal::fault
