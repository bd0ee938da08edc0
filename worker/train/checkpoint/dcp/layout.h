// A TorchEasyRec checkpoint, model.ckpt-<step>/ (parity/train.md 5):
//
//   model/       state names as they are
//   optimizer/   "state.<parameter>.<key>" for our "<parameter>//<key>"
//   dense_ema/   averages under the names of their parameters, our "<parameter>//dense_ema"
//
// each a folder of torch.distributed.checkpoint; plan and dataloader_state.json beside them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "worker/train/checkpoint/dcp/dcp_folder.h"

namespace anneal::checkpoint::dcp {

inline constexpr const char* kParts[] = {"model", "optimizer", "dense_ema"};

/// Whether a folder is such a checkpoint.
bool IsTorchEasyRec(const std::string& checkpoint);

/// Our name of a tensor in a part's folder; empty for what is none of ours (the number of averages).
std::string OurName(const std::string& part, const std::string& name, const Tensor& tensor);

/// Where one of our states goes: the part and the keys in it.
struct PlaceInLayout {
  std::string part;
  std::vector<std::string> keys;
  std::string name() const;  ///< keys joined by dots
};
PlaceInLayout PlaceOf(const std::string& our_name);

}  // namespace anneal::checkpoint::dcp
