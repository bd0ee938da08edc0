"""What multi-task models may have besides their golden runs: weights of losses found anew in every step, towers per domain,
DC2VR; and variational dropout, which any model may have."""
import json
import unittest

import numpy
import pyarrow
import pyarrow.parquet
import torch.distributed.checkpoint as dcp

from dcp_test import tensors
from dense_embeddings_test import columns
from export_test import COMPILER
from harness import ANNEAL, GOLDEN, TWO_RANKS, Case, edits, scalars, weights

ZOO = GOLDEN / "zoo"


@unittest.skipUnless(ZOO.exists(), "the golden files are not on this machine")
class Tasks(Case):
    def config(self, case, model, *more, rows="multi", path=None, **config):
        return ["--pipeline_config_path", path or ZOO / case / "pipeline.config", "--edit_config_json",
                edits(**{"train_input_path": str(ZOO / f"data/{rows}_train.parquet"), "eval_input_path": str(ZOO / f"data/{rows}_eval.parquet"),
                         "model_dir": str(self.dir / model), "train_config.use_tensorboard": True, **config}), *more]

    def train(self, case, model, *more, **config):
        return self.run_program(ANNEAL, "train", *self.config(case, model, *more, **config))

    def through(self, case, formats, **config):
        """Trains, stopped and continued as well; checkpoint and exports say the same of the evaluation's rows."""
        self.train(case, "whole", train_config__num_steps=10, **config)
        self.train(case, "parts", train_config__num_steps=6, **config)
        self.train(case, "parts", "--continue_train", train_config__num_steps=10, **config)
        whole, parts = (weights(self.dir / run / "model.ckpt-9") for run in ("whole", "parts"))
        self.assertEqual(whole, parts)
        known = self.config(case, "whole", **config)
        rows = ["--predict_input_path", ZOO / f"data/{config.get('rows', 'multi')}_eval.parquet"]
        self.run_program(ANNEAL, "predict", *known, *rows, "--predict_output_path", self.dir / "predicted")
        want = columns(self.dir / "predicted")
        for format in formats:
            folder = self.dir / format
            self.run_program(ANNEAL, "export", *known, "--export_dir", folder, "--format", format, "--quantization", "FP32",
                             env={"ANNEAL_COMPILER_PYTHON": COMPILER})
            self.assertTrue(json.loads((folder / "export_report.json").read_text())["passed"], format)
        self.run_program(ANNEAL, "predict", "--scripted_model_path", self.dir / "TorchScript", *rows, "--predict_output_path", self.dir / "exported")
        exported = columns(self.dir / "exported")
        self.assertEqual(sorted(want), sorted(exported))
        for name, values in want.items():
            numpy.testing.assert_allclose(values, exported[name], atol=1e-5, err_msg=name)
        return want, whole

    def totals(self, case, model, names, **config):
        """The share of the first of two losses in the total, step by step."""
        seen, shares = scalars(self.dir / model), []
        for step in range(sum(tag == "loss/total" for tag, _ in seen)):
            one, other, total = (seen["loss/" + name, step] for name in (*names, "total"))
            shares.append((total - other) / (one - other) if one != other else None)
        return shares

    def test_pareto_weights(self):
        names = ("binary_cross_entropy_ctr", "binary_cross_entropy_cvr")
        pareto = {"model_config.use_pareto_loss_weight": True}
        for case in ("ple", "pepnet"):
            least = {f"model_config.{case}.task_towers[{t}].pareto_min_loss_weight": value for t, value in enumerate((0.2, 0.1))}
            self.train(case, case, "--fine_tune_checkpoint", ZOO / case / "weights_init.safetensors", **pareto, **least)
            shares = self.totals(case, case, names)
            self.assertEqual(len(shares), 20)
            for share in shares:
                self.assertTrue(0.2 - 1e-3 <= share <= 0.9 + 1e-3, shares)
            self.assertGreater(max(shares) - min(shares), 0.01)  # found anew in every step
            # Unweighted losses are logged: before the first update those of the golden run.
            golden = json.loads((ZOO / case / "losses.json").read_text())
            for name in names:
                self.assertAlmostEqual(scalars(self.dir / case)["loss/" + name, 0], golden[0][name], delta=1e-5)
        # One loss alone has all the weight: the least weights leave none to choose.
        fixed = {f"model_config.ple.task_towers[{t}].pareto_min_loss_weight": value for t, value in enumerate((0.999999, 0.0))}
        self.train("ple", "fixed", **pareto, **fixed, train_config__num_steps=3)
        for share in self.totals("ple", "fixed", names):
            self.assertAlmostEqual(share, 1, delta=1e-3)

    def test_pareto_weights_are_the_ranks_own(self):
        config = {"model_config.use_pareto_loss_weight": True, "data_config.batch_size": 128}
        self.launch(*TWO_RANKS, "train", *self.config("ple", "whole", train_config__num_steps=8, **config))
        self.launch(*TWO_RANKS, "train", *self.config("ple", "parts", train_config__num_steps=5, **config))
        self.launch(*TWO_RANKS, "train", *self.config("ple", "parts", "--continue_train", train_config__num_steps=8, **config))
        whole, parts = (weights(self.dir / run / "model.ckpt-7") for run in ("whole", "parts"))
        self.assertEqual(whole, parts)

    def test_towers_per_domain(self):
        predicted, state = self.through("pepnet", ("TorchScript", "ONNX"))
        self.assertEqual(sorted(predicted), sorted(f"{kind}_{task}_{domain}" for kind in ("logits", "probs") for task in ("ctr", "cvr") for domain in range(3)))
        self.assertIn("model._task_tower.5.linear.weight", state)
        # The evaluation's loss is made of each row's own domain.
        rows = pyarrow.parquet.read_table(ZOO / "data/multi_eval.parquet")
        domain, label = (numpy.array(rows[name].to_pylist()) for name in ("domain", "clk"))
        probs = numpy.stack([predicted[f"probs_ctr_{d}"] for d in range(3)], 1)[numpy.arange(1024), domain]
        want = -numpy.log(numpy.where(label == 1, probs, 1 - probs)).mean()
        result = json.loads((self.dir / "whole/train_eval_result_v2.txt").read_text())
        self.assertAlmostEqual(result["binary_cross_entropy_ctr"], want, delta=2e-6)
        wrong = rows.set_column(rows.column_names.index("domain"), "domain", pyarrow.array([3] * 1024))
        pyarrow.parquet.write_table(wrong, self.dir / "wrong.parquet")
        text = self.run_program(ANNEAL, "train", *self.config("pepnet", "bad", train_input_path=str(self.dir / "wrong.parquet")), expect=78)
        self.assertIn("label column domain holds 3; task_domain_num 3 allows 0 to 2", text)
        floats = rows.set_column(rows.column_names.index("domain"), "domain", rows["domain"].cast(pyarrow.float32()))
        pyarrow.parquet.write_table(floats, self.dir / "floats.parquet")
        text = self.run_program(ANNEAL, "train", *self.config("pepnet", "worse", train_input_path=str(self.dir / "floats.parquet")), expect=78)
        self.assertIn("label column domain is the domain of a row and has to hold whole numbers", text)

    def test_dc2vr(self):
        text = (ZOO / "ple/pipeline.config").read_text()
        config = self.dir / "dc2vr.config"
        config.write_text(text[:text.index("  ple {")] + """  dc2vr {
    bottom_mlp { hidden_units: 24 }
    expert_mlp { hidden_units: 16 }
    task_towers { tower_name: "ctr" label_name: "clk" low_rank_dim: 4 mlp { hidden_units: 12 }
      losses { binary_cross_entropy { } } metrics { auc { } } }
    task_towers { tower_name: "cvr" label_name: "buy" low_rank_dim: 4 mlp { hidden_units: 8 } intervention_tower_names: "ctr"
      losses { binary_cross_entropy { } } metrics { auc { } } task_space_indicator_label: "clk" out_task_space_weight: 0.2 }
  }
}
""")
        _, state = self.through("", ("TorchScript", "AOTUnified", "ONNX"), path=config)
        self.assertIn("model.intervention.cvr.source_rotate_layer.parametrizations.weight.0.base", state)

    def test_variational_dropout(self):
        config = {"rows": "rank", "model_config.variational_dropout.regularization_lambda": 0.5}
        predicted, state = self.through("deepfm", ("TorchScript", "AOTUnified", "ONNX"), **config)
        self.assertEqual(sorted(name for name in state if "dropout" in name), sorted(
            f"model.group_variational_dropouts.{group}.{part}" for group in ("wide", "fm", "deep") for part in ("feature_p", "feature_dim_repeat")))
        repeats = numpy.frombuffer(state["model.group_variational_dropouts.deep.feature_dim_repeat"], numpy.int64)
        self.assertEqual(repeats.tolist(), [8] * 7 + [1, 1, 4, 1])
        seen = scalars(self.dir / "whole")
        losses = sorted(tag for tag, step in seen if step == 9 and tag.startswith("loss/"))
        self.assertEqual(losses, sorted(["loss/binary_cross_entropy", "loss/total", *(f"loss/{group}_feature_p_loss" for group in ("wide", "fm", "deep"))]))
        for step in range(10):
            self.assertAlmostEqual(seen["loss/total", step], sum(seen[tag, step] for tag in losses if tag != "loss/total"), delta=1e-5)
            self.assertTrue(0 < seen["loss/wide_feature_p_loss", step] < 0.5 * 7 / 256)
        # Evaluation has no penalty, and nothing random.
        result = json.loads((self.dir / "whole/train_eval_result_v2.txt").read_text())
        self.assertEqual(sorted(result), ["auc", "binary_cross_entropy", "global_step"])
        label = numpy.array(pyarrow.parquet.read_table(ZOO / "data/rank_eval.parquet")["clk"].to_pylist())
        want = -numpy.log(numpy.where(label == 1, predicted["probs"], 1 - predicted["probs"])).mean()
        self.assertAlmostEqual(result["binary_cross_entropy"], want, delta=2e-6)

        # As torch writes it, the widths in 32 bits.
        model = tensors(self.dir / "whole/model.ckpt-9/model-00000-of-00001.safetensors")
        model = {name: value.int() if name.endswith("feature_dim_repeat") else value for name, value in model.items()}
        dcp.save(model, checkpoint_id=self.dir / "torch/model.ckpt-9/model")
        (self.dir / "torch/model.ckpt-9/dataloader_state.json").write_text("{}")
        self.run_program(ANNEAL, "eval", *self.config("deepfm", "torch", **config))
        again = json.loads((self.dir / "torch/eval_result.txt").read_text())
        self.assertAlmostEqual(again["binary_cross_entropy"], want, delta=2e-6)

    def test_variational_dropout_of_towers(self):
        config = {"rows": "seq", "model_config.variational_dropout": "{ }"}
        self.train("dssm", "m", train_config__num_steps=3, **config)
        names = [name for name in weights(self.dir / "m/model.ckpt-2") if name.endswith("feature_p")]
        self.assertEqual(sorted(names), ["model.item_tower.group_variational_dropouts.item.feature_p",
                                         "model.user_tower.group_variational_dropouts.user.feature_p"])
        self.run_program(ANNEAL, "export", *self.config("dssm", "m", **config), "--export_dir", self.dir / "x", "--quantization", "FP32")
        self.assertTrue(json.loads((self.dir / "x/export_report.json").read_text())["passed"])
        text = self.run_program(ANNEAL, "train", *self.config("tdm", "t", **config), expect=64)
        self.assertIn("model_config.variational_dropout: tdm does not apply it", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
