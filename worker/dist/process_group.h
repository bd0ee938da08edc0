// The collectives a worker uses: of CPU tensors over Gloo, of CUDA tensors over NCCL. One process needs none: then
// every call is a no-op.
//
// A collective that fails (a peer died, a timeout) throws PeerError naming the operation, the step and the rank to
// blame (peer_monitor.h), which ends the process with exit code 76: "not this rank's fault". The last collectives of
// every rank are then in its flight recorder file.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "worker/dist/topology.h"

namespace anneal::dist {

/// A collective on its way.
class Pending {
 public:
  virtual ~Pending() = default;
  virtual void Wait() = 0;  ///< to be called once; throws PeerError
};

class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  virtual int local_world_size() const { return world_size(); }  ///< ranks on each host
  virtual at::Device device() const { return at::kCPU; }         ///< where this rank keeps its model and tables
  /// The training step that the next collectives belong to, for reports.
  virtual void set_step(int64_t) {}

  virtual void AllReduceSum(at::Tensor tensor) = 0;  ///< in place
  /// The same, which goes on while the caller does something else. All ranks start their collectives in one order.
  virtual std::unique_ptr<Pending> StartAllReduceSum(at::Tensor tensor);
  virtual void Broadcast(at::Tensor tensor, int root) = 0;  ///< in place
  /// Rows of `input` go to ranks by input_splits (rows per rank), rows of `output` come by output_splits.
  virtual void AllToAll(at::Tensor output, const at::Tensor& input, const std::vector<int64_t>& output_splits,
                        const std::vector<int64_t>& input_splits) = 0;
  virtual void Barrier() = 0;
  /// One number of every rank, in rank order.
  virtual std::vector<int64_t> AllGather(int64_t value) = 0;
  /// A group of the same ranks for another thread: its collectives have an order of their own. Collective; lives no
  /// longer than this group. Null when there is one rank.
  virtual std::unique_ptr<ProcessGroup> Beside() { return nullptr; }
  /// One text of every rank, in rank order.
  std::vector<std::string> AllGatherText(const std::string& text);
};

/// Joins the group at master_addr:master_port; blocks until every rank is there (at most `timeout`). Should a
/// collective fail, this rank's flight recorder goes to `<model_dir>/flight_recorder/rank-<rank>.json` (nowhere without
/// model_dir). `device`: ChooseDevice, or the CPU.
std::unique_ptr<ProcessGroup> Connect(const Topology& topology, at::Device device, const std::string& model_dir = "");

}  // namespace anneal::dist
