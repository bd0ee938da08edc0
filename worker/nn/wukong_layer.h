// A layer of stacked factorization machines. Zhang et al., "Wukong: Towards a Scaling Law for Large-Scale
// Recommendation", ICML 2024; parity/models.md 4.2.
//
// x is a row's fields, [B, fields, dim]. `columns` is x with a row for each of its columns, [B*dim, fields]: mixing the
// fields is one product of matrices then.
#pragma once

#include <memory>

#include "tzrec/module.pb.h"
#include "worker/nn/linear.h"
#include "worker/nn/mlp.h"
#include "worker/nn/normalization.h"

namespace anneal::nn {

/// Linear mixtures of the fields, W'x with W [fields, out]: columns -> [B*dim, out]. State name: weight,
/// Kaiming-uniform.
class LinearCompressBlock : public Module {
 public:
  LinearCompressBlock(int64_t fields, int64_t out);
  at::Tensor Forward(const at::Tensor& columns) const;
  int64_t output_fields() const { return weight_.size(1); }

 private:
  at::Tensor weight_;
};

/// The dot products of the fields with k mixtures of them, p = x (x'W) with W [fields, k], through LayerNorm and an MLP
/// to new fields: x, columns -> [B, out, dim]. State names: weight (Kaiming-uniform), norm, mlp, feature_out_liner.
class FactorizationMachineBlock : public Module {
 public:
  FactorizationMachineBlock(int64_t fields, int64_t dim, int64_t out, int64_t k, const tzrec::protos::MLP& mlp);
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& columns);

 private:
  int64_t dim_, out_;
  at::Tensor weight_;
  LayerNorm norm_;
  Mlp mlp_;
  Linear output_;
};

/// LayerNorm([FMB(x); LCB(x)] + R(x)) over the columns; R is x itself when the number of fields stays, else a mixture.
/// State names: fmb, lcb, norm, residual_projection.
class WuKongLayer : public Module {
 public:
  WuKongLayer(int64_t fields, int64_t dim, const tzrec::protos::WuKongLayer& config);
  at::Tensor Forward(const at::Tensor& x);
  int64_t output_fields() const { return output_fields_; }

 private:
  int64_t fields_, dim_, output_fields_;
  LinearCompressBlock lcb_;
  FactorizationMachineBlock fmb_;
  std::unique_ptr<LinearCompressBlock> residual_;
  LayerNorm norm_;
};

}  // namespace anneal::nn
