"""Every export format: made by `anneal export`, loaded by other implementations, held against TorchEasyRec's outputs."""
import json
import pathlib
import sys
import unittest

import numpy
import torch

from harness import ANNEAL, GOLDEN, ROOT, Case

ZOO = GOLDEN / "zoo"
COMPILER = str(ROOT / "tests/run_python")


def tensors(path):
    """A safetensors file as torch tensors."""
    data = pathlib.Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    types = {"F32": torch.float32, "I64": torch.int64, "F16": torch.float16, "U8": torch.uint8}
    found = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            dtype = types[entry["dtype"]]
            raw = torch.frombuffer(bytearray(data[begin:end]), dtype=dtype) if end > begin else torch.empty(0, dtype=dtype)
            found[name] = raw.reshape(entry["shape"])
    return found


def rows(inputs, first, count):
    """Some rows of an input dictionary."""
    taken = {}
    for name, value in inputs.items():
        lengths = inputs.get(name.rsplit(".", 1)[0] + ".lengths")
        if lengths is None or name.endswith(".lengths"):
            taken[name] = value[first:first + count]
        else:
            start = int(lengths[:first].sum())
            taken[name] = value[start:start + int(lengths[first:first + count].sum())]
    return taken


@unittest.skipUnless(ZOO.exists(), "the golden files are not on this machine")
class Formats(Case):
    def export(self, format, *flags, model="deepfm", case="QUANT_EMB=0", env=None, expect=0):
        golden = ZOO / model / "export" / case
        self.inputs, self.outputs = tensors(golden / "inputs32.safetensors"), tensors(golden / "outputs32.safetensors")
        trained = ZOO / model / "export/QUANT_EMB=0/scripted_state.safetensors"  # the model before its tables were quantised
        self.state = tensors(trained)
        folder = self.dir / "exported"
        self.text = self.run_program(
            ANNEAL, "export", "--pipeline_config_path", ZOO / model / "pipeline.config", "--checkpoint_path", trained,
            "--export_dir", folder, "--verify_input_path", ZOO / "data/multi_eval.parquet", "--format", format, *flags,
            env={"ANNEAL_COMPILER_PYTHON": COMPILER, **(env or {})}, timeout=540, expect=expect)
        if expect == 0:
            report = json.loads((folder / "export_report.json").read_text())
            self.assertTrue(report["passed"])
            self.assertGreater(report["rows"], 1000)
            self.assertEqual(report["format"], format)
        return folder

    def check(self, outputs, limit=1e-5, first=0, count=32):
        self.assertEqual(sorted(outputs), sorted(self.outputs))
        for name, want in self.outputs.items():
            got = torch.as_tensor(outputs[name])
            self.assertLessEqual((got - want[first:first + count]).abs().max().item(), limit, name)

    def check_rows(self, run):
        """The batch is whatever the request holds."""
        self.check(run(self.inputs))
        for first in (0, 31):
            self.check(run(rows(self.inputs, first, 1)), first=first, count=1)

    def test_aot(self):
        folder = self.export("AOT", "--quantization", "FP32")
        self.assertEqual({str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()},
                         {"scripted_sparse_model.pt", "aoti/aoti_model.pt2", "gm_sparse.code", "graph/gm_full.graph", "graph/gm_sparse.graph",
                          "pipeline.config", "fg.json", "model_acc.json", "export_report.json"})
        acc = json.loads((folder / "model_acc.json").read_text())
        self.assertEqual((acc["SPARSE_INT64"], acc["ENABLE_AOT"]), ("1", "1"))
        sparse, dense = torch.jit.load(folder / "scripted_sparse_model.pt"), torch._inductor.aoti_load_package(str(folder / "aoti/aoti_model.pt2"))

        def run(inputs):
            boundary = sparse(inputs)
            return dense(dict(sorted(boundary.items())))

        self.check_rows(run)
        # `anneal predict` and `anneal bench-serve` load it, too.
        self.run_program(ANNEAL, "predict", "--scripted_model_path", folder, "--predict_input_path", ZOO / "data/multi_eval.parquet",
                         "--predict_output_path", self.dir / "predictions", "--predict_steps", 2)
        report = self.dir / "bench.json"
        self.run_program(ANNEAL, "bench-serve", folder, "--input_path", ZOO / "data/multi_eval.parquet", "--batch_sizes", "1,8", "--threads", "1,2",
                         "--seconds", 0.2, "--report", report)
        measured = json.loads(report.read_text())["measurements"]
        self.assertEqual([(line["batch_size"], line["threads"]) for line in measured], [(1, 1), (1, 2), (8, 1), (8, 2)])
        for line in measured:
            self.assertGreaterEqual(line["p99_us"], line["p50_us"])
            self.assertGreater(line["p50_us"], 0)
            self.assertGreater(line["rows_per_second"], 0)

    def test_aot_unified(self):
        folder = self.export("AOTUnified", case="default")  # INT8 tables
        self.assertEqual(json.loads((folder / "model_acc.json").read_text())["ENABLE_AOT"], "2")
        self.assertFalse(list(folder.glob("scripted*")))
        whole = torch._inductor.aoti_load_package(str(folder / "aoti/aoti_model.pt2"))
        self.check_rows(lambda inputs: whole(dict(sorted(inputs.items()))))

    def test_onnx_and_what_a_missing_tensorrt_leaves(self):
        import onnxruntime
        folder = self.export("TensorRT", "--quantization", "FP32", expect=64)
        self.assertRegex(self.text, r"no TensorRT engine: the compiler cannot run: .*(tensorrt|GPU)")
        self.assertIn("The checked ONNX model is kept", self.text)
        self.assertTrue(json.loads((folder / "export_report.json").read_text())["passed"])
        session = onnxruntime.InferenceSession(str(folder / "dense.onnx"), providers=["CPUExecutionProvider"])
        sparse, names = torch.jit.load(folder / "scripted_sparse_model.pt"), [output.name for output in session.get_outputs()]

        def run(inputs):
            boundary = sparse(inputs)
            return dict(zip(names, session.run(names, {part.name: boundary[part.name].numpy() for part in session.get_inputs()})))

        self.check_rows(run)

    def pooled(self, inputs, table, feature, mean=False):
        values, lengths = inputs[feature + ".values"], inputs[feature + ".lengths"]
        bags = [table[values[start:start + length]].sum(0) for start, length in zip(lengths.cumsum(0) - lengths, lengths)]
        pooled = torch.stack(bags)
        return pooled / lengths.clamp(min=1).unsqueeze(1) if mean else pooled

    def test_distributed(self):
        """A row server and a dense processor in Python, from nothing but the files."""
        for quantised in (False, True):
            with self.subTest(quantised=quantised):
                self.setUp()
                folder = self.export("Distributed", env={"DIST_QUANT": "INT8"} if quantised else {})
                acc = json.loads((folder / "model_acc.json").read_text())
                self.assertEqual(acc.get("DIST_QUANT"), "INT8" if quantised else None)
                self.assertEqual((acc["DISTRIBUTED_EMBEDDING"], acc["INPUT_TILE"]), ("1", "3"))
                arrays = numpy.load(folder / "sparse/sparse_embeddings-00-of-01.npz")
                description = json.loads((folder / "sparse/sparse_embedding.json").read_text())
                self.assertEqual(set(arrays.files), set(description))
                tables = {}
                for name, entry in description.items():
                    weights = self.state[name + ".weight"].numpy()
                    self.assertEqual((entry["dense"], entry["is_dynamic"], entry["dimension"], entry["shape"]), (False, False, weights.shape[1], list(weights.shape)))
                    if not quantised:
                        self.assertEqual((entry["dtype"], entry["memory"]), ("float32", weights.nbytes))
                        numpy.testing.assert_array_equal(arrays[name], weights)
                        tables[name] = torch.tensor(arrays[name])
                        continue
                    # The row format of the contract, by numpy.
                    offset = weights.min(1).astype(numpy.float16)
                    scale = ((weights.max(1) - offset.astype(numpy.float32)) / numpy.float32(255)).astype(numpy.float16)
                    scale[scale == 0] = 1
                    wide_scale, wide_offset = scale.astype(numpy.float32)[:, None], offset.astype(numpy.float32)[:, None]
                    codes = numpy.clip(numpy.rint((weights - wide_offset) / wide_scale), 0, 255).astype(numpy.uint8)
                    packed = numpy.concatenate([codes, scale.view(numpy.uint8).reshape(-1, 2), offset.view(numpy.uint8).reshape(-1, 2)], 1)
                    numpy.testing.assert_array_equal(arrays[name], packed)
                    self.assertEqual((entry["dtype"], entry["row_bytes"], entry["storage_shape"]), ("QUint8RowwiseF16", weights.shape[1] + 4, list(packed.shape)))
                    tables[name] = torch.tensor(codes.astype(numpy.float32) * wide_scale + wide_offset)
                uses = json.loads((folder / "sparse/sparse_features.json").read_text())
                dense = torch.jit.load(folder / "scripted_model.pt")
                inputs = {name: value for name, value in self.inputs.items() if name.rsplit(".", 1)[0] + ".lengths" not in self.inputs}
                for boundary, blocks in json.loads((folder / "dense_meta.json").read_text()).items():
                    inputs[boundary] = torch.cat([self.pooled(self.inputs, tables[uses[block]["embedding_name"]], block.split("@")[0].removesuffix("__ebc"),
                                                              uses[block]["pooling"] == "MEAN") for block in blocks], 1)
                inputs["batch_size"] = torch.tensor(1)
                self.check(dense(inputs), limit=2e-3 if quantised else 1e-5)

    def test_rtp(self):
        folder = self.export("RTP")
        self.assertEqual({str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()},
                         {"model-000000-of-000001.safetensors", "model-000000-of-000001.json", "fx_user_model/scripted_model.pt", "graph/gm_dense.graph",
                          "graph/gm_sparse.graph", "fg.json", "export_report.json"})
        stored = tensors(folder / "model-000000-of-000001.safetensors")
        description = json.loads((folder / "model-000000-of-000001.json").read_text())
        self.assertEqual(set(stored), set(description))
        wanted = {name + "/part_0_1": value for name, value in self.state.items() if ".embedding_bags." in name}
        self.assertEqual(set(stored), set(wanted))
        for name, value in wanted.items():
            self.assertTrue(torch.equal(stored[name], value), name)
            self.assertEqual(description[name], {"name": name, "dense": False, "dimension": value.shape[1], "dtype": "float32",
                                                 "memory": value.numel() * 4, "shape": list(value.shape), "is_hashmap": False})
        fg = {entry["feature_name"]: entry for entry in json.loads((folder / "fg.json").read_text())["features"]}
        user = fg["user_id"]
        self.assertEqual((user["gen_key_type"], user["hash_bucket_size"], user["gen_val_type"], user["value_dimension"]), ("mod", 300, "lookup", 0))
        self.assertNotIn("num_buckets", user)
        self.assertEqual((user["shared_name"], user["embedding_dimension"]), ("user_id_emb", 8))
        bucketed = fg["price_bkt"]
        self.assertEqual((bucketed["gen_key_type"], bucketed["gen_val_type"]), ("boundary", "lookup"))
        self.assertRegex(bucketed["boundaries"], r"^[0-9.,-]+$")
        self.assertEqual((fg["age"]["gen_key_type"], fg["age"]["gen_val_type"]), ("idle", "idle"))
        self.run_program(ANNEAL, "export", "--pipeline_config_path", ROOT / "examples/movielens/pipeline.config", "--checkpoint_path", "nothing",
                         "--export_dir", self.dir / "refused", env={"USE_RTP": "1"}, expect=64)

    def test_compilers_that_cannot_compile(self):
        for python, says in (("/nowhere/python3", "No such file"), (sys.executable, "No module named 'torch'")):
            with self.subTest(python):
                self.export("AOT", "--compiler_python", python, expect=64, env={"PYTHONPATH": "", "LD_LIBRARY_PATH": ""})
                self.assertIn("the compiler cannot run", self.text)
                self.assertIn(says, self.text)
                self.assertIn("--compiler_python", self.text)
                self.assertFalse((self.dir / "exported").exists())


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[1:]], verbosity=2)
