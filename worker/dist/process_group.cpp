#include "worker/dist/process_group.h"

#include <ATen/ATen.h>

#include <cstdlib>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "worker/config/environment.h"
#include "worker/config/error.h"
#include "worker/dist/flight_recorder.h"
#include "worker/dist/peer_monitor.h"
#include "worker/train/progress/log.h"

namespace anneal::dist {
namespace {

/// A collective that is over already.
class Over : public Pending {
 public:
  void Wait() override {}
};

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
  C10d(const Topology& topology, const std::string& model_dir) : topology_(topology) {
    try {
      c10d::TCPStoreOptions options;
      options.port = static_cast<uint16_t>(topology.master_port);
      options.isServer = topology.rank == 0;
      options.numWorkers = topology.world_size;
      options.waitWorkers = true;
      options.timeout = topology.timeout;
      store_ = c10::make_intrusive<c10d::TCPStore>(topology.master_addr, options);
      Watch(options, model_dir);
      backend_ = MakeGloo();
    } catch (const std::exception& error) {
      throw PeerError(Me() + ": rendezvous at " + topology.master_addr + ":" + std::to_string(topology.master_port) +
                      " failed, not every rank came within " + std::to_string(topology.timeout.count()) +
                      " s: " + Short(error));
    }
  }

  int rank() const override { return topology_.rank; }
  int world_size() const override { return topology_.world_size; }
  int local_world_size() const override { return topology_.local_world_size; }
  void set_step(int64_t step) override { step_ = step; }

  void AllReduceSum(at::Tensor tensor) override {
    std::vector<at::Tensor> tensors{tensor};
    Run("all-reduce", tensor.nbytes(), [&] { backend_->allreduce(tensors)->wait(); });
  }

  std::unique_ptr<Pending> StartAllReduceSum(at::Tensor tensor) override {
    std::vector<at::Tensor> tensors{tensor};
    const Call call{"all-reduce", recorder_->Begin("all-reduce", step_, static_cast<int64_t>(tensor.nbytes())), step_};
    c10::intrusive_ptr<c10d::Work> work;
    Try(call, [&] { work = backend_->allreduce(tensors); });
    return std::make_unique<Started>(*this, call, std::move(work));
  }

  void Broadcast(at::Tensor tensor, int root) override {
    std::vector<at::Tensor> tensors{tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    Run("broadcast", tensor.nbytes(), [&] { backend_->broadcast(tensors, options)->wait(); });
  }

  void AllToAll(at::Tensor output, const at::Tensor& input, const std::vector<int64_t>& output_splits,
                const std::vector<int64_t>& input_splits) override {
    auto out_splits = output_splits, in_splits = input_splits;
    at::Tensor in = input;
    Run("all-to-all", in.nbytes(), [&] { backend_->alltoall_base(output, in, out_splits, in_splits)->wait(); });
  }

  void Barrier() override {
    Run("barrier", 0, [&] { backend_->barrier()->wait(); });
  }

  std::vector<int64_t> AllGather(int64_t value) override {
    at::Tensor all = at::zeros({world_size()}, at::kLong);
    all[rank()] = value;
    AllReduceSum(all);
    const int64_t* data = all.const_data_ptr<int64_t>();
    return {data, data + world_size()};
  }

 private:
  void Watch(c10d::TCPStoreOptions options, const std::string& model_dir) {
    options.port = store_->getPort();
    options.isServer = false;
    options.waitWorkers = false;
    auto own = c10::make_intrusive<c10d::TCPStore>(topology_.master_addr, options);
    auto on_verdict = [recorder = recorder_, topology = topology_, model_dir](const Verdict& verdict) {
      if (model_dir.empty()) return;
      const std::string path =
          recorder->Write(model_dir + "/flight_recorder", topology.rank, topology.world_size, verdict.text);
      if (!path.empty())
        LogError("rank " + std::to_string(topology.rank) + ": " + verdict.text +
                 "; the last collectives of this rank are in " + path);
    };
    monitor_ = std::make_unique<PeerMonitor>(c10::make_intrusive<c10d::PrefixStore>("peers", own), topology_.rank,
                                             topology_.world_size, on_verdict);
  }

  c10::intrusive_ptr<c10d::Backend> MakeGloo() {
    auto gloo = c10d::ProcessGroupGloo::Options::create(topology_.timeout);
    const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
    const bool loopback = topology_.master_addr == "127.0.0.1" || topology_.master_addr == "localhost";
    gloo->devices.push_back(interface  ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                            : loopback ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                                       : c10d::ProcessGroupGloo::createDefaultDevice());
    gloo->threads = 2;
    return c10::make_intrusive<c10d::ProcessGroupGloo>(c10::make_intrusive<c10d::PrefixStore>("anneal", store_),
                                                       topology_.rank, topology_.world_size, gloo);
  }

  struct Call {
    const char* operation;
    int64_t sequence, step;
  };

  class Started : public Pending {
   public:
    Started(C10d& group, const Call& call, c10::intrusive_ptr<c10d::Work> work)
        : group_(group), call_(call), work_(std::move(work)) {}
    void Wait() override {
      group_.Try(call_, [this] { work_->wait(); });
      group_.Finish(call_);
    }

   private:
    C10d& group_;
    const Call call_;
    c10::intrusive_ptr<c10d::Work> work_;
  };

  template <typename Function>
  void Run(const char* operation, size_t bytes, Function function) {
    const Call call{operation, recorder_->Begin(operation, step_, static_cast<int64_t>(bytes)), step_};
    Try(call, function);
    Finish(call);
  }

  template <typename Function>
  void Try(const Call& call, Function function) {
    monitor_->Enter(call.sequence, call.operation, call.step);
    try {
      function();
    } catch (const std::exception& error) {
      recorder_->End(call.sequence, Short(error));
      const Verdict verdict = monitor_->Judge();
      throw PeerError(Me() + ": " + call.operation + " (collective " + std::to_string(call.sequence) + ") of step " +
                      std::to_string(call.step) + " failed: " + verdict.text + "; the transport says: " + Short(error));
    }
  }

  void Finish(const Call& call) {
    recorder_->End(call.sequence, "");
    monitor_->Leave();
  }

  std::string Me() const {
    return "rank " + std::to_string(topology_.rank) + " of " + std::to_string(topology_.world_size);
  }
  static std::string Short(const std::exception& error) { return std::string(error.what()).substr(0, 300); }

  const Topology topology_;
  int64_t step_ = -1;
  c10::intrusive_ptr<c10d::TCPStore> store_;
  const std::shared_ptr<FlightRecorder> recorder_ = std::make_shared<FlightRecorder>();
  c10::intrusive_ptr<c10d::Backend> backend_;
  std::unique_ptr<PeerMonitor> monitor_;  // the first to go: the others learn why this rank leaves
};

}  // namespace

Topology Topology::FromEnvironment() {
  Topology topology;
  topology.world_size = config::EnvironmentInt("WORLD_SIZE", 1, 1, 1 << 20);
  topology.rank = config::EnvironmentInt("RANK", 0, 0, topology.world_size - 1);
  topology.local_world_size = config::EnvironmentInt("LOCAL_WORLD_SIZE", topology.world_size, 1, 1 << 16);
  if (topology.world_size % topology.local_world_size != 0) {
    throw ConfigError("LOCAL_WORLD_SIZE=" + std::to_string(topology.local_world_size) + " does not divide WORLD_SIZE=" +
                      std::to_string(topology.world_size) + ": every host needs as many ranks");
  }
  topology.local_rank = config::EnvironmentInt("LOCAL_RANK", 0, 0, 1 << 16);
  topology.master_port = config::EnvironmentInt("MASTER_PORT", 29500, 1, 65535);
  if (const char* address = std::getenv("MASTER_ADDR"); address && *address) topology.master_addr = address;
  topology.timeout = std::chrono::seconds(config::EnvironmentInt("PROCESS_GROUP_TIMEOUT_SECONDS", 1800, 1, 1 << 30));
  return topology;
}

std::unique_ptr<Pending> ProcessGroup::StartAllReduceSum(at::Tensor tensor) {
  AllReduceSum(tensor);
  return std::make_unique<Over>();
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

std::unique_ptr<ProcessGroup> Connect(const Topology& topology, const std::string& model_dir) {
  if (topology.world_size == 1) return std::make_unique<Alone>();
  return std::make_unique<C10d>(topology, model_dir);
}

}  // namespace anneal::dist
