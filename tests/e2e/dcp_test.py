"""Checkpoints in TorchEasyRec's own format: torch reads what is converted, and what torch writes is evaluated, fine-tuned,
exported and continued."""
import json
import struct
import unittest

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemReader

from harness import ANNEAL, GOLDEN, Case, edits, read_safetensors, weights

ZOO = GOLDEN / "zoo"
TYPES = {"F32": torch.float32, "I64": torch.int64}


def tensors(path):
    """name -> tensor of a safetensors file"""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    found = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            found[name] = torch.frombuffer(bytearray(data[begin:end]) or bytearray(1), dtype=TYPES[entry["dtype"]])[:
                (end - begin) // TYPES[entry["dtype"]].itemsize].reshape(entry["shape"])
    return found


def loaded(folder):
    """name -> tensor of a folder, by torch"""
    metadata = FileSystemReader(folder).read_metadata().state_dict_metadata
    state = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in metadata.items()}
    dcp.load(state, checkpoint_id=folder)
    return state


def save_as_torch(golden, folder):
    """The end of a golden run as the reference writes a checkpoint, by torch."""
    dcp.save(tensors(golden / "weights_end.safetensors"), checkpoint_id=folder / "model")
    state = {}
    for name, value in tensors(golden / "optimizer_end.safetensors").items():
        parameter, _, key = name.partition("//")
        state.setdefault(parameter, {})[key] = value
    dcp.save({"state": state}, checkpoint_id=folder / "optimizer")
    (folder / "dataloader_state.json").write_text("{}")


@unittest.skipUnless(ZOO.exists(), "the golden files are not on this machine")
class Dcp(Case):
    def config(self, model, *more, **config):
        return ["--pipeline_config_path", ZOO / "opt_ema/pipeline.config", "--edit_config_json",
                edits(train_input_path=str(ZOO / "data/rank_train.parquet"), eval_input_path=str(ZOO / "data/rank_eval.parquet"),
                      model_dir=str(self.dir / model), **config), *more]

    def test_torch_loads_what_is_converted(self):
        self.run_program(ANNEAL, "launch", "--nproc-per-node", "2", "--", "train", *self.config(
            "m", train_config__num_steps=6, **{"train_config.global_embedding_constraints.sharding_types": ["row_wise"]}))
        text = self.run_program(ANNEAL, "checkpoint", "convert", self.dir / "m", self.dir / "x", "--to", "dcp")
        folder = self.dir / "x/model.ckpt-5"
        self.assertIn(str(folder), text)
        self.assertEqual(sorted(path.name for path in folder.iterdir()),
                         ["dataloader_state.json", "dense_ema", "model", "optimizer", "plan", "train_state.json"])
        model = loaded(folder / "model")
        ours = weights(self.dir / "m/model.ckpt-5")
        self.assertEqual({name: value.numpy().tobytes() for name, value in model.items()}, ours)
        table = FileSystemReader(folder / "model").read_metadata().state_dict_metadata[
            "model.embedding_group.emb_impls.__BASE__.ebc.embedding_bags.user_id_emb.weight"]
        self.assertEqual([list(chunk.offsets) for chunk in table.chunks], [[0, 0], [150, 0]])
        # As a nested state dict, which torch flattens in its own way.
        name = "model.final_mlp.mlp.0.perceptron.0.weight"
        nested = {"state": {name: {"exp_avg": torch.zeros(16, 25), "exp_avg_sq": torch.zeros(16, 25)}}}
        dcp.load(nested, checkpoint_id=folder / "optimizer")
        optimizer = tensors(self.dir / "m/model.ckpt-5/optimizer-00000-of-00002.safetensors")
        self.assertTrue(torch.equal(nested["state"][name]["exp_avg"], optimizer[name + "//exp_avg"]))
        self.assertGreater(nested["state"][name]["exp_avg_sq"].abs().sum().item(), 0)
        average = loaded(folder / "dense_ema")
        self.assertTrue(torch.equal(average[name], optimizer[name + "//dense_ema"]))
        self.assertEqual(average["__n_averaged__"].item(), 6)
        # There and back: nothing is lost, and a continued run does not notice.
        self.run_program(ANNEAL, "checkpoint", "convert", folder, self.dir / "y", "--to", "safetensors")
        self.assertEqual(weights(self.dir / "y/model.ckpt-5"), ours)
        for run in ("m", "x", "y"):
            self.run_program(ANNEAL, "train", *self.config(run, "--continue_train", train_config__num_steps=9))
        for run in ("x", "y"):
            for kind in ("model", "optimizer"):
                one, two = (read_safetensors(self.dir / which / f"model.ckpt-8/{kind}-00000-of-00001.safetensors")
                            for which in ("m", run))
                self.assertEqual(one, two)
        text = self.run_program(ANNEAL, "checkpoint", "convert", self.dir / "m/model.ckpt-5", self.dir / "x", "--to", "dcp", expect=64)
        self.assertIn("is there already", text)

    def test_what_torch_writes_is_evaluated_fine_tuned_exported_and_continued(self):
        golden = ZOO / "deepfm"
        folder = self.dir / "torch/model.ckpt-19"
        save_as_torch(golden, folder)

        def command(program, *more, model="torch", **config):
            return [ANNEAL, program, "--pipeline_config_path", golden / "pipeline.config", "--edit_config_json",
                    edits(train_input_path=str(ZOO / "data/rank_train.parquet"), model_dir=str(self.dir / model),
                          eval_input_path=str(ZOO / "data/rank_eval.parquet"), **config), *more]

        self.run_program(*command("eval"))
        self.run_program(*command("eval", "--checkpoint_path", folder))
        want = json.loads((golden / "eval_result.json").read_text())
        for line in (self.dir / "torch/eval_result.txt").read_text().splitlines():
            for name, value in want.items():
                self.assertAlmostEqual(json.loads(line)[name], value, delta=1e-6)
        self.run_program(*command("export", "--quantization", "FP32", "--export_dir", self.dir / "export"))
        # Fine-tuning is the same from either kind of file.
        self.run_program(*command("train", "--fine_tune_checkpoint", folder, model="one", train_config__num_steps=2,
                                  train_config__save_checkpoints_steps=0), )
        self.run_program(ANNEAL, "checkpoint", "convert", folder, self.dir / "ours", "--to", "safetensors")
        self.run_program(*command("train", "--fine_tune_checkpoint", self.dir / "ours/model.ckpt-19", model="two",
                                  train_config__num_steps=2))
        self.assertEqual(weights(self.dir / "one/model.ckpt-1"), weights(self.dir / "two/model.ckpt-1"))
        self.assertNotIn("Skip restore state", self.run_program(*command("train", "--continue_train", train_config__num_steps=22)))
        self.assertTrue((self.dir / "torch/model.ckpt-21/manifest.json").exists())
        with (folder / "model/__0_0.distcp").open("r+b") as shard:
            shard.seek(shard.seek(0, 2) // 2)
            shard.write(b"\x55\xaa\x55")
        text = self.run_program(*command("eval", "--checkpoint_path", folder), expect=78)
        self.assertRegex(text, r"__0_0\.distcp: .*(damaged|checksum)")


if __name__ == "__main__":
    unittest.main(verbosity=2)
