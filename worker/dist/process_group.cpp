#include "worker/dist/process_group.h"

#include <ATen/ATen.h>

#include <cstdlib>
#include <functional>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "worker/config/environment.h"
#include "worker/config/error.h"
#include "worker/dist/device.h"
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
  explicit Alone(at::Device device) : device_(device) {}
  at::Device device() const override { return device_; }
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

 private:
  const at::Device device_;
};

/// The collectives of a c10d backend; derived classes say which one, and what surrounds a call.
class Collectives : public ProcessGroup {
 public:
  void AllReduceSum(at::Tensor tensor) override {
    std::vector<at::Tensor> tensors{tensor};
    Run("all-reduce", tensor.nbytes(), [&] { Of(tensor).allreduce(tensors)->wait(); });
  }

  void Broadcast(at::Tensor tensor, int root) override {
    std::vector<at::Tensor> tensors{tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    Run("broadcast", tensor.nbytes(), [&] { Of(tensor).broadcast(tensors, options)->wait(); });
  }

  void AllToAll(at::Tensor output, const at::Tensor& input, const std::vector<int64_t>& output_splits,
                const std::vector<int64_t>& input_splits) override {
    auto out_splits = output_splits, in_splits = input_splits;
    at::Tensor in = input;
    Run("all-to-all", in.nbytes(), [&] { Of(in).alltoall_base(output, in, out_splits, in_splits)->wait(); });
  }

  std::vector<int64_t> AllGather(int64_t value) override {
    at::Tensor all = at::zeros({world_size()}, at::kLong);
    all[rank()] = value;
    AllReduceSum(all);
    const int64_t* data = all.const_data_ptr<int64_t>();
    return {data, data + world_size()};
  }

  void Barrier() override {
    Run("barrier", 0, [&] { Of(at::Tensor()).barrier()->wait(); });
  }

 protected:
  /// The backend for a tensor, or for none.
  virtual c10d::Backend& Of(const at::Tensor& tensor) = 0;
  /// Calls `function`, in which a collective of so many bytes runs; throws PeerError.
  virtual void Run(const char* operation, size_t bytes, const std::function<void()>& function) = 0;
};

/// Gloo, and NCCL for tensors on CUDA devices.
class C10d : public Collectives {
 public:
  C10d(const Topology& topology, at::Device device, const std::string& model_dir)
      : topology_(topology), device_(device) {
    try {
      c10d::TCPStoreOptions options;
      options.port = static_cast<uint16_t>(topology.master_port);
      options.isServer = topology.rank == 0;
      options.numWorkers = topology.world_size;
      options.waitWorkers = true;
      options.timeout = topology.timeout;
      store_ = c10::make_intrusive<c10d::TCPStore>(topology.master_addr, options);
      Watch(options, model_dir);
      gloo_ = MakeGloo("anneal");
      if (device.is_cuda()) {
        nccl_ = FindAccelerator()->MakeNccl(c10::make_intrusive<c10d::PrefixStore>("nccl", store_), topology);
      }
    } catch (const std::exception& error) {
      throw PeerError(Me() + ": rendezvous at " + topology.master_addr + ":" + std::to_string(topology.master_port) +
                      " failed, not every rank came within " + std::to_string(topology.timeout.count()) +
                      " s: " + Short(error));
    }
  }

  int rank() const override { return topology_.rank; }
  int world_size() const override { return topology_.world_size; }
  int local_world_size() const override { return topology_.local_world_size; }
  at::Device device() const override { return device_; }
  void set_step(int64_t step) override { step_ = step; }

  std::unique_ptr<Pending> StartAllReduceSum(at::Tensor tensor) override {
    std::vector<at::Tensor> tensors{tensor};
    const Call call{"all-reduce", recorder_->Begin("all-reduce", step_, static_cast<int64_t>(tensor.nbytes())), step_};
    c10::intrusive_ptr<c10d::Work> work;
    Try(call, [&] { work = Of(tensor).allreduce(tensors); });
    return std::make_unique<Started>(*this, call, std::move(work));
  }

  std::unique_ptr<ProcessGroup> Beside() override {
    try {
      return std::make_unique<SideGroup>(*this, MakeGloo("beside-" + std::to_string(groups_beside_++)));
    } catch (const std::exception& error) {
      Fail("connection of a second group", error);
    }
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

  c10::intrusive_ptr<c10d::Backend> MakeGloo(const std::string& name) {
    auto gloo = c10d::ProcessGroupGloo::Options::create(topology_.timeout);
    const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
    const bool loopback = topology_.master_addr == "127.0.0.1" || topology_.master_addr == "localhost";
    gloo->devices.push_back(interface  ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                            : loopback ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                                       : c10d::ProcessGroupGloo::createDefaultDevice());
    gloo->threads = 2;
    return c10::make_intrusive<c10d::ProcessGroupGloo>(c10::make_intrusive<c10d::PrefixStore>(name, store_),
                                                       topology_.rank, topology_.world_size, gloo);
  }

  c10d::Backend& Of(const at::Tensor& tensor) override {
    return tensor.defined() && tensor.is_cuda() ? *nccl_ : *gloo_;
  }

  struct Call {
    const char* operation;
    int64_t sequence, step;
  };

  /// CPU tensors over Gloo connections of its own. The flight recorder and the monitor see the main group alone: a
  /// thread that waits for this one is late there.
  class SideGroup : public Collectives {
   public:
    SideGroup(C10d& group, c10::intrusive_ptr<c10d::Backend> gloo) : group_(group), gloo_(std::move(gloo)) {}
    int rank() const override { return group_.rank(); }
    int world_size() const override { return group_.world_size(); }

   private:
    c10d::Backend& Of(const at::Tensor&) override { return *gloo_; }
    // What fails here is judged where the main group fails: its record has to be whole by then.
    void Run(const char*, size_t, const std::function<void()>& function) override { function(); }

    C10d& group_;
    c10::intrusive_ptr<c10d::Backend> gloo_;
  };

  /// A failed collective: the verdict of the whole group.
  [[noreturn]] void Fail(const std::string& what, const std::exception& error) {
    const Verdict verdict = monitor_->Judge();
    throw PeerError(Me() + ": " + what + " failed: " + verdict.text + "; the transport says: " + Short(error));
  }

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

  void Run(const char* operation, size_t bytes, const std::function<void()>& function) override {
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
      Fail(
          call.operation + (" (collective " + std::to_string(call.sequence)) + ") of step " + std::to_string(call.step),
          error);
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
  const at::Device device_;
  int64_t step_ = -1;
  c10::intrusive_ptr<c10d::TCPStore> store_;
  const std::shared_ptr<FlightRecorder> recorder_ = std::make_shared<FlightRecorder>();
  c10::intrusive_ptr<c10d::Backend> gloo_, nccl_;
  int groups_beside_ = 0;
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

std::unique_ptr<ProcessGroup> Connect(const Topology& topology, at::Device device, const std::string& model_dir) {
  if (topology.world_size == 1) return std::make_unique<Alone>(device);
  return std::make_unique<C10d>(topology, device, model_dir);
}

}  // namespace anneal::dist
