// The scorer of tree-based retrieval. Zhu et al., "Learning Tree-based Deep Model for Recommender Systems", KDD 2018;
// parity/models.md 12.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/models/model.h"
#include "worker/nn/mlp.h"
#include "worker/nn/multi_window_din.h"

namespace anneal::models {

/// output(MLP([multi-window DIN of the one SEQUENCE group, every other group as declared])). Of kItemEmbedding the
/// query of that group, `item_emb` [B, query_width], and no state. State names: multiwindow_din, deep_mlp (the config's
/// `final`), output_mlp.
class Tdm : public Model {
 public:
  explicit Tdm(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  std::string sequence_;
  std::vector<std::string> others_;
  std::unique_ptr<nn::MultiWindowDin> attention_;
  std::unique_ptr<nn::Mlp> deep_;
  std::unique_ptr<nn::Linear> output_;
};

}  // namespace anneal::models
