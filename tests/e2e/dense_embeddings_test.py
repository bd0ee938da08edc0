"""Dense features as vectors (autodis, mlp) beyond the golden run: every export, ranks, checkpoints of torch, part optimizers,
averages, the towers of match models."""
import json
import re
import unittest

import numpy
import pyarrow.parquet
import torch

from dcp_test import loaded, save_as_torch, tensors
from export_test import COMPILER
from harness import ANNEAL, GOLDEN, TWO_RANKS, Case, edits, read_safetensors, scalars, weights

ZOO = GOLDEN / "zoo"
PLACE = "model.embedding_group.emb_impls.__BASE__.dense_ec.dense_embs."
AUTODIS, NUMBERS = PLACE + "autodis#8#5#0_700000#0_200000.", PLACE + "mlp#8#vdim#4#feature_name#            vec."


def columns(folder):
    table = pyarrow.parquet.read_table(folder / "part-0.parquet")
    return {name: numpy.array(table[name].to_pylist()) for name in table.column_names}


@unittest.skipUnless(ZOO.exists(), "the golden files are not on this machine")
class DenseEmbeddings(Case):
    def config(self, model, *more, case="multi_tower", rows="rank", path=None, **config):
        return ["--pipeline_config_path", path or ZOO / case / "pipeline.config", "--edit_config_json",
                edits(**{"train_input_path": str(ZOO / f"data/{rows}_train.parquet"), "eval_input_path": str(ZOO / f"data/{rows}_eval.parquet"),
                         "model_dir": str(self.dir / model), "train_config.use_tensorboard": True, **config}), *more]

    def predict(self, name, *source, rows="rank"):
        self.run_program(ANNEAL, "predict", *source, "--predict_input_path", ZOO / f"data/{rows}_eval.parquet",
                         "--predict_output_path", self.dir / name)
        return columns(self.dir / name)

    def test_exports_say_what_the_checkpoint_says(self):
        self.run_program(ANNEAL, "train", *self.config("m", train_config__num_steps=8))
        want = self.predict("checkpoint", *self.config("m"))
        for format in ("TorchScript", "AOT", "AOTUnified", "ONNX", "RTP", "Distributed"):
            with self.subTest(format):
                folder = self.dir / format
                self.run_program(ANNEAL, "export", *self.config("m"), "--export_dir", folder, "--format", format, "--quantization", "FP32",
                                 env={"ANNEAL_COMPILER_PYTHON": COMPILER})
                report = json.loads((folder / "export_report.json").read_text())
                self.assertTrue(report["passed"])
                self.assertGreater(report["rows"], 1000)
                if format in ("TorchScript", "AOT", "AOTUnified"):
                    numpy.testing.assert_allclose(self.predict("of" + format, "--scripted_model_path", folder)["y"], want["y"], atol=1e-5)
        state = torch.jit.load(str(self.dir / "TorchScript/scripted_model.pt")).state_dict()
        trained = tensors(self.dir / "m/model.ckpt-7/model-00000-of-00001.safetensors")
        for i, feature in enumerate(("age", "price")):
            self.assertTrue(torch.equal(state[AUTODIS + "meta_emb"][i], trained[f"{AUTODIS}meta_emb_{feature}.weight"]))
        self.assertTrue(torch.equal(state[NUMBERS + "proj_w"], trained[NUMBERS + "proj_w_vec.weight"]))

    def test_two_ranks_stopped_and_continued(self):
        for sharding in ("table_wise", "row_wise"):
            kept = {"train_config.global_embedding_constraints.sharding_types": [sharding], "data_config.batch_size": 128}
            self.launch(*TWO_RANKS, "train", *self.config(sharding, train_config__num_steps=10, **kept))
        one, other = (scalars(self.dir / kind) for kind in ("table_wise", "row_wise"))
        for step in range(10):
            self.assertAlmostEqual(one["loss/l2_loss", step], other["loss/l2_loss", step], delta=2e-5 * one["loss/l2_loss", step])
        self.launch(*TWO_RANKS, "train", *self.config("parts", train_config__num_steps=6, **kept))
        self.launch(*TWO_RANKS, "train", *self.config("parts", "--continue_train", train_config__num_steps=10, **kept))
        whole, parts = (weights(self.dir / run / "model.ckpt-9") for run in ("row_wise", "parts"))
        self.assertEqual(whole, parts)
        self.assertIn(AUTODIS + "proj_m_price.weight", whole)

    def test_checkpoints_of_torch(self):
        golden = ZOO / "multi_tower"
        folder = self.dir / "torch/model.ckpt-19"
        save_as_torch(golden, folder)
        self.run_program(ANNEAL, "eval", *self.config("torch"))
        result = json.loads((self.dir / "torch/eval_result.txt").read_text())
        self.assertAlmostEqual(result["l2_loss"], json.loads((golden / "eval_result.json").read_text())["l2_loss"], delta=1e-5)
        text = self.run_program(ANNEAL, "train", *self.config("torch", "--continue_train", train_config__num_steps=22))
        # torchrec has no state of a frozen table.
        missing = ["model.embedding_group.emb_impls.__BASE__.ebc.embedding_bags.cate_emb.weight//cate_emb.momentum1"]
        self.assertEqual(re.findall(r"Skip restore state \[(.*)\]", text), missing)
        self.run_program(ANNEAL, "checkpoint", "convert", self.dir / "torch/model.ckpt-21", self.dir / "x", "--to", "dcp")
        ours = weights(self.dir / "torch/model.ckpt-21")
        model, optimizer = (loaded(self.dir / "x/model.ckpt-21" / part) for part in ("model", "optimizer"))
        self.assertEqual({name: value.numpy().tobytes() for name, value in model.items()}, ours)
        self.assertEqual(set(model), set(tensors(golden / "weights_end.safetensors")))
        self.assertEqual(list(optimizer[f"state.{AUTODIS}meta_emb.exp_avg"].shape), [2, 5, 8])
        self.assertEqual({name.removeprefix("state.") for name in optimizer if "dense_ec" in name},
                         {name.replace("//", ".") for name in tensors(golden / "optimizer_end.safetensors") if "dense_ec" in name})
        # Fine-tuning finds every parameter, under another name, too.
        names = self.dir / "names"
        names.write_text(f"{AUTODIS}meta_emb_age.weight {AUTODIS}meta_emb_price.weight\n".replace(" " * 12, ""))
        text = self.run_program(ANNEAL, "train", *self.config("tuned", "--fine_tune_checkpoint", folder, train_config__num_steps=1,
                                                              train_config__fine_tune_ckpt_param_map=str(names)))
        self.assertEqual(re.findall(r"Skip restore state \[(.*)\]", text), missing)
        self.assertIn(f"Remap restore state [{AUTODIS}meta_emb_age.weight] from [{AUTODIS}meta_emb_price.weight]", text)
        tuned, before = weights(self.dir / "tuned/model.ckpt-0"), tensors(golden / "weights_end.safetensors")
        age = torch.frombuffer(bytearray(tuned[AUTODIS + "meta_emb_age.weight"]), dtype=torch.float32).reshape(5, 8)
        self.assertLessEqual((age - before[AUTODIS + "meta_emb_price.weight"]).abs().max().item(), 0.0011)  # a step of Adam

    def test_part_optimizers_and_averages(self):
        config = {"train_config.dense_optimizer.part_optimizers":
                      "{ regex_pattern: '.*autodis.*proj_.*' sgd_optimizer { lr: 0 } constant_learning_rate { } }",
                  "train_config.dense_optimizer.ema": "{ decay: 0.8 }"}
        start = ZOO / "multi_tower/weights_init.safetensors"
        text = self.run_program(ANNEAL, "train", *self.config("m", "--fine_tune_checkpoint", start, train_config__num_steps=5, **config))
        self.assertIn(f"part_optim_params0:['{AUTODIS}proj_w', '{AUTODIS}proj_m']", text)
        before, after = read_safetensors(start), weights(self.dir / "m/model.ckpt-4")
        for feature in ("age", "price"):
            for part, still in (("proj_w", True), ("proj_m", True), ("meta_emb", False)):
                name = f"{AUTODIS}{part}_{feature}.weight"
                self.assertEqual(before[name] == after[name], still, name)
        optimizer = tensors(self.dir / "m/model.ckpt-4/optimizer-00000-of-00001.safetensors")
        self.assertEqual(list(optimizer[AUTODIS + "meta_emb//dense_ema"].shape), [2, 5, 8])
        # Exports have the averages.
        self.run_program(ANNEAL, "export", *self.config("m", **config), "--export_dir", self.dir / "x", "--quantization", "FP32")
        state = torch.jit.load(str(self.dir / "x/scripted_model.pt")).state_dict()
        self.assertTrue(torch.equal(state[AUTODIS + "meta_emb"], optimizer[AUTODIS + "meta_emb//dense_ema"]))
        live = torch.frombuffer(bytearray(after[AUTODIS + "meta_emb_age.weight"]), dtype=torch.float32).reshape(5, 8)
        self.assertFalse(torch.equal(state[AUTODIS + "meta_emb"][0], live))

    def test_towers_of_match_models_have_their_own(self):
        text = (ZOO / "dssm/pipeline.config").read_text()
        for feature, setting in (("age", "mlp { }"), ("price", "autodis { num_channels: 3 }")):
            text = re.sub(rf'(feature_name: "{feature}"\n)', rf"\1    embedding_dim: 4\n    {setting}\n", text)
        config = self.dir / "dssm.config"
        config.write_text(text.replace("in_batch_negative: true", "in_batch_negative: false"))
        items = pyarrow.parquet.read_table(ZOO / "data/items.parquet").to_pylist()
        rows = [f"{item['item_id']}\t1\t{item['item_id']}:{item['cate']}:{item['price']}" for item in items]
        (self.dir / "items.txt").write_text("\n".join(["id:int64\tweight:float\tattrs:string", *rows]) + "\n")
        sampler = {"num_sample": 40, "attr_fields": ["item_id", "cate", "price"], "item_id_field": "item_id",
                   "input_path": str(self.dir / "items.txt")}
        known = {"path": config, "rows": "seq", **{f"data_config.negative_sampler.{field}": value for field, value in sampler.items()}}
        self.run_program(ANNEAL, "train", *self.config("m", **known))
        names = [name for name in weights(self.dir / "m/model.ckpt-19") if "dense_ec" in name]
        key = "autodis#4#3#0_800000#0_100000"
        self.assertEqual(sorted(names), sorted(
            [f"model.item_tower.embedding_group.emb_impls.__NEG__.dense_ec.dense_embs.{key}.{part}_price.weight"
             for part in ("meta_emb", "proj_m", "proj_w")] +
            ["model.user_tower.embedding_group.emb_impls.__BASE__.dense_ec.dense_embs.mlp#4.proj_w_age.weight"]))
        self.run_program(ANNEAL, "export", *self.config("m", **known), "--export_dir", self.dir / "x", "--quantization", "FP32")
        report = json.loads((self.dir / "x/export_report.json").read_text())
        self.assertTrue(report["passed"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
