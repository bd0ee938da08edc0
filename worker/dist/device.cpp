#include "worker/dist/device.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>

#include "worker/config/error.h"

namespace anneal::dist {
namespace {

struct Found {
  const Accelerator* accelerator = nullptr;
  std::string why;
};

Found Load() {
  const auto library = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "libanneal_cuda.so";
  if (!std::filesystem::exists(library)) return {nullptr, "this is a CPU build, without " + library.string()};
  // For all to see: FBGEMM's libraries look for the symbols of LibTorch's CUDA half that comes with it.
  void* handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!handle) return {nullptr, library.string() + " could not be loaded: " + ::dlerror()};
  using Function = const Accelerator* (*)();
  const auto function = reinterpret_cast<Function>(::dlsym(handle, kAcceleratorFunction));
  if (!function) return {nullptr, library.string() + " has no " + kAcceleratorFunction};
  const Accelerator* accelerator = function();
  if (accelerator->device_count() == 0) {
    return {nullptr, "no CUDA device is visible to this process (driver, NVIDIA_VISIBLE_DEVICES)"};
  }
  return {accelerator, ""};
}

}  // namespace

const Accelerator* FindAccelerator(std::string* why) {
  static const Found found = Load();
  if (why) *why = found.why;
  return found.accelerator;
}

at::Device ChooseDevice(const Topology& topology) {
  const char* text = std::getenv("ANNEAL_DEVICE");
  const std::string asked = text && *text ? text : "auto";
  if (asked != "auto" && asked != "cpu" && asked != "cuda") {
    throw ConfigError("environment variable ANNEAL_DEVICE='" + asked + "': one of auto, cpu, cuda");
  }
  if (asked == "cpu") return at::kCPU;
  std::string why;
  const Accelerator* accelerator = FindAccelerator(&why);
  if (!accelerator) {
    if (asked == "cuda") throw ConfigError("ANNEAL_DEVICE=cuda: " + why);
    return at::kCPU;
  }
  const int devices = accelerator->device_count();
  if (topology.local_rank >= devices) {
    throw ConfigError("LOCAL_RANK=" + std::to_string(topology.local_rank) + ", but this process sees " +
                      std::to_string(devices) + " CUDA devices: one process per device");
  }
  accelerator->Use(topology.local_rank);
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(topology.local_rank));
}

}  // namespace anneal::dist
