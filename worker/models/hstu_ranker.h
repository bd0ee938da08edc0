// Generative rankers: the candidates of a row are judged together, after its history (Zhai et al., "Actions Speak
// Louder than Words: Trillion-Parameter Sequential Transducers for Generative Recommendations", ICML 2024;
// parity/models.md 14).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tzrec/models/multi_task_rank.pb.h"
#include "worker/models/model.h"
#include "worker/nn/hstu/transducer.h"
#include "worker/nn/mlp.h"

namespace anneal::models {

/// Linear(MLP(u * i)), one output a candidate and task: u the transducer's vector, of several channels side by side, i
/// that of the candidate alone (_item_embedding_mlp). Groups: "contextual", "candidate", "candidate_timestamp", and of
/// each channel "uih", "uih_action", "uih_watchtime", "uih_timestamp", or its name in place of "uih"; those that no
/// part reads may be missing.
class HstuRanker : public Model {
 public:
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 protected:
  /// `Config`: DlrmHSTU or UltraHSTU; `channels`: its transducers.
  template <typename Config>
  HstuRanker(const ModelInput& input, const Config& config, const std::vector<tzrec::protos::HSTU>& channels);

 private:
  struct Channel {
    std::string history;  ///< group
    std::unique_ptr<nn::hstu::Transducer> transducer;
  };

  int64_t AddChannel(const ModelInput& input, const tzrec::protos::HSTU& config, const nn::hstu::RankingWidths& widths,
                     int64_t max_seq_len, const std::string& module);
  nn::hstu::RankingInput InputOf(const Groups& groups, const Channel& channel) const;
  /// Reversed, rows and elements alike, where the config has the newest first.
  at::Tensor InOrder(const at::Tensor& x) const;

  const bool ascending_;
  std::vector<Channel> channels_;
  std::unique_ptr<nn::hstu::SwishMlp> item_;
  std::unique_ptr<nn::Mlp> mlp_;
  std::unique_ptr<nn::Linear> linear_;
};

/// One transducer, `_hstu_transducer`.
class DlrmHstu : public HstuRanker {
 public:
  explicit DlrmHstu(const ModelInput& input);
};

/// Several, `_hstu_transducer._transducers.<i>`; one alone is named as DlrmHstu's.
class UltraHstu : public HstuRanker {
 public:
  explicit UltraHstu(const ModelInput& input);
};

}  // namespace anneal::models
