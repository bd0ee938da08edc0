// MaskNet. Wang et al., DLP-KDD 2021; parity/models.md 9.
#pragma once

#include <memory>

#include "worker/models/model.h"
#include "worker/nn/mask_net.h"

namespace anneal::models {

/// output_linear(mask_net_layer(first group)), the last layer without bias.
class MaskNetModel : public Model {
 public:
  explicit MaskNetModel(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  std::string group_;
  std::unique_ptr<nn::MaskNet> mask_net_;
  std::unique_ptr<nn::Linear> output_;
};

}  // namespace anneal::models
