#include "worker/dist/process_group.h"

#include <ATen/ATen.h>

#include <cstdlib>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "worker/config/error.h"

namespace anneal::dist {
namespace {

/// One process: nothing to exchange.
class Alone : public ProcessGroup {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  void AllReduceSum(at::Tensor) override {}
  void Broadcast(at::Tensor, int) override {}
  void AllToAll(at::Tensor output, const at::Tensor& input, const std::vector<int64_t>&,
                const std::vector<int64_t>&) override {
    output.copy_(input);
  }
  void Barrier() override {}
  std::vector<int64_t> AllGather(int64_t value) override { return {value}; }
};

/// Any c10d backend; today Gloo.
class C10d : public ProcessGroup {
 public:
  explicit C10d(const Topology& topology) : topology_(topology) {
    Run("rendezvous", [&] {
      c10d::TCPStoreOptions options;
      options.port = static_cast<uint16_t>(topology.master_port);
      options.isServer = topology.rank == 0;
      options.numWorkers = topology.world_size;
      options.waitWorkers = true;
      options.timeout = topology.timeout;
      store_ = c10::make_intrusive<c10d::TCPStore>(topology.master_addr, options);
      auto gloo = c10d::ProcessGroupGloo::Options::create(topology.timeout);
      const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
      const bool loopback = topology.master_addr == "127.0.0.1" || topology.master_addr == "localhost";
      gloo->devices.push_back(interface  ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                              : loopback ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                                         : c10d::ProcessGroupGloo::createDefaultDevice());
      gloo->threads = 2;
      backend_ = c10::make_intrusive<c10d::ProcessGroupGloo>(c10::make_intrusive<c10d::PrefixStore>("anneal", store_),
                                                             topology.rank, topology.world_size, gloo);
    });
  }

  int rank() const override { return topology_.rank; }
  int world_size() const override { return topology_.world_size; }

  void AllReduceSum(at::Tensor tensor) override {
    std::vector<at::Tensor> tensors{tensor};
    Run("all-reduce", [&] { backend_->allreduce(tensors)->wait(); });
  }

  void Broadcast(at::Tensor tensor, int root) override {
    std::vector<at::Tensor> tensors{tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    Run("broadcast", [&] { backend_->broadcast(tensors, options)->wait(); });
  }

  void AllToAll(at::Tensor output, const at::Tensor& input, const std::vector<int64_t>& output_splits,
                const std::vector<int64_t>& input_splits) override {
    auto out_splits = output_splits, in_splits = input_splits;
    at::Tensor in = input;
    Run("all-to-all", [&] { backend_->alltoall_base(output, in, out_splits, in_splits)->wait(); });
  }

  void Barrier() override {
    Run("barrier", [&] { backend_->barrier()->wait(); });
  }

  std::vector<int64_t> AllGather(int64_t value) override {
    at::Tensor all = at::zeros({world_size()}, at::kLong);
    all[rank()] = value;
    AllReduceSum(all);
    const int64_t* data = all.const_data_ptr<int64_t>();
    return {data, data + world_size()};
  }

 private:
  template <typename Function>
  void Run(const char* operation, Function function) {
    try {
      function();
    } catch (const std::exception& error) {
      throw PeerError("rank " + std::to_string(topology_.rank) + " of " + std::to_string(topology_.world_size) + ": " +
                      operation + " failed, another rank died or did not answer within " +
                      std::to_string(topology_.timeout.count()) + " s: " + std::string(error.what()).substr(0, 300));
    }
  }

  Topology topology_;
  c10::intrusive_ptr<c10d::TCPStore> store_;
  c10::intrusive_ptr<c10d::Backend> backend_;
};

int EnvironmentInt(const char* name, int fallback, int least, int most) {
  const char* text = std::getenv(name);
  if (!text || !*text) return fallback;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end || value < least || value > most) {
    throw ConfigError(std::string("environment variable ") + name + "='" + text + "' must be a number from " +
                      std::to_string(least) + " to " + std::to_string(most));
  }
  return static_cast<int>(value);
}

}  // namespace

Topology Topology::FromEnvironment() {
  Topology topology;
  topology.world_size = EnvironmentInt("WORLD_SIZE", 1, 1, 1 << 20);
  topology.rank = EnvironmentInt("RANK", 0, 0, topology.world_size - 1);
  topology.local_world_size = EnvironmentInt("LOCAL_WORLD_SIZE", topology.world_size, 1, 1 << 16);
  topology.local_rank = EnvironmentInt("LOCAL_RANK", 0, 0, 1 << 16);
  topology.master_port = EnvironmentInt("MASTER_PORT", 29500, 1, 65535);
  if (const char* address = std::getenv("MASTER_ADDR"); address && *address) topology.master_addr = address;
  topology.timeout = std::chrono::seconds(EnvironmentInt("PROCESS_GROUP_TIMEOUT_SECONDS", 1800, 1, 1 << 30));
  return topology;
}

std::vector<std::string> ProcessGroup::AllGatherText(const std::string& text) {
  const std::vector<int64_t> sizes = AllGather(static_cast<int64_t>(text.size()));
  std::vector<std::string> texts;
  for (int r = 0; r < world_size(); ++r) {
    at::Tensor bytes = at::zeros({std::max<int64_t>(sizes[r], 1)}, at::kByte);
    if (r == rank()) std::copy(text.begin(), text.end(), static_cast<char*>(bytes.mutable_data_ptr()));
    Broadcast(bytes, r);
    texts.emplace_back(static_cast<const char*>(bytes.const_data_ptr()), sizes[r]);
  }
  return texts;
}

std::unique_ptr<ProcessGroup> Connect(const Topology& topology) {
  if (topology.world_size == 1) return std::make_unique<Alone>();
  return std::make_unique<C10d>(topology);
}

}  // namespace anneal::dist
