"""Every export format: made by `anneal export`, loaded by other implementations, held against TorchEasyRec's outputs.

The Python and C++ of docs/export.md are run here, as they stand there."""
import contextlib
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import types
import unittest

import numpy
import pyarrow.parquet
import torch

from harness import ANNEAL, BUILD, GOLDEN, ROOT, Case

ZOO = GOLDEN / "zoo"
COMPILER = str(ROOT / "tests/run_python")


def tensors(path):
    """A safetensors file as torch tensors."""
    data = pathlib.Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    types = {"F32": torch.float32, "I64": torch.int64, "I32": torch.int32, "F16": torch.float16, "U8": torch.uint8}
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


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it never came")
        time.sleep(0.02)


def document(section, language):
    """The code of a section of docs/export.md."""
    text = (ROOT / "docs/export.md").read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.search(rf"```{language}\n(.*?)```", text, re.S)[1]


@unittest.skipUnless(ZOO.exists(), "the golden files are not on this machine")
class Formats(Case):
    def export(self, format, *flags, model="deepfm", case="QUANT_EMB=0", data="multi_eval", env=None, expect=0):
        golden = ZOO / model / "export" / case
        self.inputs, self.outputs = tensors(golden / "inputs32.safetensors"), tensors(golden / "outputs32.safetensors")
        trained = ZOO / model / "export/QUANT_EMB=0/scripted_state.safetensors"  # the model before its tables were quantised
        self.state = tensors(trained)
        folder = self.dir / "exported"
        self.text = self.run_program(
            ANNEAL, "export", "--pipeline_config_path", ZOO / model / "pipeline.config", "--checkpoint_path", trained,
            "--export_dir", folder, "--verify_input_path", ZOO / f"data/{data}.parquet", "--format", format, *flags,
            env={"ANNEAL_COMPILER_PYTHON": COMPILER, **(env or {})}, timeout=540, expect=expect)
        if expect == 0:
            report = json.loads((folder / "export_report.json").read_text())
            self.assertTrue(report["passed"])
            self.assertGreater(report["rows"], 1000)
            self.assertEqual(report["format"], format)
            self.assertEqual(report["files"], {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*")
                                               if path.is_file() and path.name != "export_report.json"})
        return folder

    def check(self, outputs, limit=1e-5, first=0, count=32, names=None):
        self.assertEqual(sorted(outputs), names or sorted(self.outputs))
        for name, want in self.outputs.items():
            if name not in outputs:
                continue
            got = torch.as_tensor(outputs[name])
            self.assertLessEqual((got - want[first:first + count]).abs().max().item(), limit, name)

    def check_rows(self, run):
        """The batch is whatever the request holds."""
        self.check(run(self.inputs))
        for first in (0, 31):
            self.check(run(rows(self.inputs, first, 1)), first=first, count=1)

    def check_document(self, section, folder, format=None, limit=1e-5, boundary=None):
        """The section's Python on the reference's rows, or on boundary tensors; its C++ on two rows of its own; Python says the same of those."""
        modules = {"safetensors": types.SimpleNamespace(torch=types.SimpleNamespace(load_file=tensors)), "numpy": numpy, "json": json, "torch": torch}
        with contextlib.suppress(ImportError):
            import onnxruntime
            modules["onnxruntime"] = onnxruntime

        def python(**inputs):
            known = {**modules, **inputs}
            with contextlib.chdir(folder):
                exec(document(section, "python"), known)
            return torch.as_tensor(known["probs"])

        if boundary is None:
            self.check({"probs": python(rows=self.inputs)}, limit, names=["probs"])
        if format is None:
            return
        arguments, given = [], {}
        for name, width in (boundary or {}).items():
            arguments += [name, width]
            given[name] = torch.full([2, width], 0.125) if width else torch.tensor(1)
        if boundary is None:
            known = {"torch": torch}
            exec(document("Inputs and outputs", "python"), known)
            given = {**{name: torch.ones(2, dtype=value.dtype) for name, value in self.inputs.items() if value.dtype == torch.int64},
                     **{name: torch.zeros(2, value.shape[1]) for name, value in self.inputs.items() if value.dtype == torch.float32}, **known["rows"]}
        said = self.run_program(BUILD / "tests/worker/export/plain_loader", format, *arguments, cwd=folder)
        mine = python(**{"rows" if boundary is None else "boundary" if section == "RTP" else "blocks": given})
        for line, want in zip(said.split(), mine, strict=True):
            self.assertAlmostEqual(float(line), want.item(), delta=1e-6)

    def test_the_documents_cpp_is_what_is_run(self):
        program = [line.strip() for line in (ROOT / "tests/worker/export/plain_loader.cpp").read_text().splitlines()]
        for section in ("Inputs and outputs", "TorchScript", "AOT", "AOTUnified", "RTP", "Distributed"):
            lines = [line.strip() for line in document(section, "cpp").splitlines()]
            includes, body = [line for line in lines if line.startswith("#")], [line for line in lines if not line.startswith("#")]
            self.assertLessEqual(len(lines), 12)
            self.assertTrue(set(includes) <= set(program), section)
            self.assertTrue(any(program[start:start + len(body)] == body for start in range(len(program))), section)

    def test_torchscript(self):
        """Files and configuration are the reference's; what INT4 costs is what another implementation measures."""
        import torchmetrics
        exact = self.export("TorchScript", "--quantization", "FP32")
        self.check_document("TorchScript", exact, "TorchScript")
        self.assertEqual({path.name for path in exact.iterdir()}, set(json.loads((ZOO / "deepfm/export/QUANT_EMB=0/artefacts.json").read_text())) | {"export_report.json"})
        self.run_program(ANNEAL, "check", exact / "pipeline.config")
        folder = exact.with_name("coarse")
        exact.rename(exact.with_name("exact"))
        self.export("TorchScript", "--quantization", "INT4").rename(folder)
        lost = json.loads((folder / "export_report.json").read_text())["quantization"]
        found = {}
        for name in ("exact", "coarse"):
            self.run_program(ANNEAL, "predict", "--scripted_model_path", self.dir / name, "--predict_input_path", ZOO / "data/multi_eval.parquet",
                             "--predict_output_path", self.dir / f"{name}-predictions", "--reserved_columns", "clk")
            found[name] = pyarrow.parquet.read_table(self.dir / f"{name}-predictions")
        apart = numpy.concatenate([numpy.abs(found["exact"][key].to_numpy() - found["coarse"][key].to_numpy()) for key in ("logits", "probs")])
        self.assertAlmostEqual(lost["max_abs_diff"], apart.max(), delta=1e-6)
        self.assertAlmostEqual(lost["mean_abs_diff"], apart.mean(), delta=1e-6)
        for name, when in (("exact", "before"), ("coarse", "after")):
            auc = torchmetrics.functional.classification.binary_auroc(torch.tensor(found[name]["probs"].to_numpy()), torch.tensor(found[name]["clk"].to_numpy()), thresholds=200)
            self.assertAlmostEqual(lost["metrics_" + when]["auc"], auc.item(), delta=1e-5)
        self.assertNotEqual(lost["metrics_before"]["auc"], lost["metrics_after"]["auc"])

    def test_a_model_without_dense_features(self):
        """The boundary has one tensor only."""
        text = (ZOO / "deepfm/pipeline.config").read_text()
        for name in re.findall(r'raw_feature \{\s*feature_name: "(\w+)"', text):
            if name != "price_bkt":
                text = re.sub(rf'feature_configs \{{\s*raw_feature \{{\s*feature_name: "{name}".*?\n\}}\n', "", text, flags=re.S)
                text = re.sub(rf'\s*feature_names: "{name}"', "", text)
        config, rows = self.dir / "ids.config", ZOO / "data/multi_eval.parquet"
        config.write_text(text)
        inputs = json.dumps({"train_input_path": str(rows), "eval_input_path": str(rows), "model_dir": str(self.dir / "model"), "train_config.num_steps": 2})
        self.run_program(ANNEAL, "train", "--pipeline_config_path", config, "--edit_config_json", inputs)
        folder = self.dir / "ids"
        self.run_program(ANNEAL, "export", "--pipeline_config_path", config, "--edit_config_json", inputs, "--export_dir", folder, "--format", "ONNX",
                         "--quantization", "FP32", env={"ANNEAL_COMPILER_PYTHON": COMPILER})
        ids = {name: torch.ones(2, dtype=torch.int64) for name in json.loads((ZOO / "deepfm/export/QUANT_EMB=0/io.json").read_text())["inputs"] if "." in name}
        self.assertEqual([name.rsplit("__", 1)[1] for name in torch.jit.load(folder / "scripted_sparse_model.pt")(ids)], ["ebc"])
        for format in ("RTP", "Distributed"):
            self.run_program(ANNEAL, "export", "--pipeline_config_path", config, "--edit_config_json", inputs, "--export_dir", self.dir / format, "--format", format)

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
        self.check_document("AOT", folder, "AOT")
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

    def path_without(self, program):
        """A PATH with everything that this one finds but that program."""
        folder = self.dir / "path"
        folder.mkdir()
        for place in os.environ["PATH"].split(os.pathsep):
            for file in pathlib.Path(place).glob("*"):
                if file.name != program and not (folder / file.name).is_symlink():
                    (folder / file.name).symlink_to(file)
        return str(folder)

    def test_aot_unified(self):
        # torch's compiler calls openssl where it compiles headers ahead; the export image has none.
        folder = self.export("AOTUnified", case="default", env={"PATH": self.path_without("openssl")})  # INT8 tables
        self.assertEqual(json.loads((folder / "model_acc.json").read_text())["ENABLE_AOT"], "2")
        self.assertFalse(list(folder.glob("scripted*")))
        whole = torch._inductor.aoti_load_package(str(folder / "aoti/aoti_model.pt2"))
        self.check_rows(lambda inputs: whole(dict(sorted(inputs.items()))))
        self.check_document("AOTUnified", folder, "AOTUnified")

    def test_onnx_and_what_a_missing_tensorrt_leaves(self):
        folder = self.export("TensorRT", "--quantization", "FP32", expect=64)
        self.assertRegex(self.text, r"no TensorRT engine: the compiler cannot run: .*(tensorrt|GPU)")
        self.assertIn("The checked ONNX model is kept", self.text)
        self.assertTrue(json.loads((folder / "export_report.json").read_text())["passed"])
        self.check_onnx(folder)
        self.check_document("ONNX", folder)

    def check_onnx(self, folder):
        """The whole ONNX model: lookups by torch, the rest by ONNX Runtime."""
        import onnxruntime
        session = onnxruntime.InferenceSession(str(folder / "dense.onnx"), providers=["CPUExecutionProvider"])
        sparse, names = torch.jit.load(folder / "scripted_sparse_model.pt"), [output.name for output in session.get_outputs()]

        def run(inputs):
            boundary = sparse(inputs)
            return dict(zip(names, session.run(names, {part.name: boundary[part.name].numpy() for part in session.get_inputs()})))

        self.check_rows(run)
        return sparse

    def test_sequences(self):
        """The reference's outputs of a model with target attention, for batches whose longest sequences differ."""
        din = {"model": "multi_tower_din", "data": "seq_eval"}
        folder = self.export("AOT", "--quantization", "FP32", **din)
        sparse, dense = torch.jit.load(folder / "scripted_sparse_model.pt"), torch._inductor.aoti_load_package(str(folder / "aoti/aoti_model.pt2"))
        self.check_rows(lambda inputs: dense(dict(sorted(sparse(inputs).items()))))
        folder.rename(self.dir / "split")
        folder = self.export("AOTUnified", **din, case="QUANT_EC_EMB=INT8", env={"QUANT_EC_EMB": "INT8"})
        whole = torch._inductor.aoti_load_package(str(folder / "aoti/aoti_model.pt2"))
        self.check_rows(lambda inputs: whole(dict(sorted(inputs.items()))))
        folder.rename(self.dir / "whole")
        sparse = self.check_onnx(self.export("ONNX", "--quantization", "FP32", **din))
        boundary = sparse(self.inputs)
        self.assertEqual(sorted(boundary), ["deep__dense", "deep__ebc", "seq__query", "seq__sequence", "seq__sequence_length"])
        self.assertEqual(list(boundary["seq__sequence"].shape), [32, int(self.inputs["click_seq__item_id.lengths"].max()), 17])

    def test_encoders_and_towers(self):
        """Nothing of a compiled model depends on how long its sample's sequences were: each is compared on the file's rows."""
        for model, data, format in (("dbmtl_seq", "seq_eval", "AOTUnified"), ("dbmtl_seq_selfattn", "seqfix_eval", "ONNX"),
                                    ("mind", "seq_eval", "AOTUnified"), ("tdm", "seq_eval", "ONNX")):
            with self.subTest(model=model, format=format):
                folder = self.dir / f"{model}-{format}"
                self.run_program(ANNEAL, "export", "--pipeline_config_path", ZOO / model / "pipeline.config", "--checkpoint_path", ZOO / model / "weights_end.safetensors",
                                 "--export_dir", folder, "--verify_input_path", ZOO / f"data/{data}.parquet", "--format", format,
                                 env={"ANNEAL_COMPILER_PYTHON": COMPILER}, timeout=540)
                self.assertTrue(json.loads((folder / "export_report.json").read_text())["passed"])

    def test_mmoe(self):
        """Two towers, no wide part: the reference's outputs from packages; of the other formats their own check in a fresh process."""
        whole = torch._inductor.aoti_load_package(str(self.export("AOTUnified", "--quantization", "FP32", model="mmoe") / "aoti/aoti_model.pt2"))
        self.check_rows(lambda inputs: whole(dict(sorted(inputs.items()))))
        for format in ("ONNX", "RTP", "Distributed"):
            (self.dir / "exported").rename(self.dir / f"before-{format}")
            folder = self.export(format, "--quantization", "FP32", model="mmoe")
            if format == "ONNX":
                self.assertGreaterEqual(len(self.outputs), 4)
                self.check_onnx(folder)

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
                self.check_document("Distributed", folder, "Distributed", boundary={
                    name: value.shape[1] if value.dim() == 2 else 0 for name, value in inputs.items()})

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
        # 7 ids with 4 numbers each for the wide part and 8 for the others; age, price, vec (4) and hist.
        self.check_document("RTP", folder, "RTP", boundary={"wide__fm__deep__ebc": 7 * (4 + 8), "wide__fm__deep__dense": 7})
        self.run_program(ANNEAL, "export", "--pipeline_config_path", ROOT / "examples/movielens/pipeline.config", "--checkpoint_path", "nothing",
                         "--export_dir", self.dir / "refused", env={"USE_RTP": "1"}, expect=64)

    def test_weighted_ids(self):
        """Unlike TorchEasyRec's, our exports use the weights of ids: each equals the trained model, which does."""
        text = (ZOO / "dcn_v2/pipeline.config").read_text().split("model_config {")[0]
        ids = ["user_id", "item_id", "cate", "city", "brand", "kvtags", "tags", "price_bkt"]
        names = lambda features: " ".join(f'feature_names: "{feature}"' for feature in features)
        config = self.dir / "weighted.config"
        config.write_text(text + f"""model_config {{
  feature_groups {{ group_name: "wide" group_type: WIDE {names(ids)} }}
  feature_groups {{ group_name: "fm" group_type: DEEP {names(ids)} }}
  feature_groups {{ group_name: "deep" group_type: DEEP {names([*ids, "age", "hist"])} }}
  deepfm {{ deep {{ hidden_units: [16] }} }}
  metrics {{ auc {{ }} }} losses {{ binary_cross_entropy {{ }} }} }}
""")
        rows = str(ZOO / "data/rank_eval.parquet")
        edits = json.dumps({"train_input_path": rows, "eval_input_path": rows, "model_dir": str(self.dir / "model"), "train_config.num_steps": 5})
        self.run_program(ANNEAL, "train", "--pipeline_config_path", config, "--edit_config_json", edits)
        for format, types in (("TorchScript", ("FP32", "FP16", "INT8", "INT4", "INT2")), ("ONNX", ("INT8",)), ("RTP", ("FP32",)), ("Distributed", ("FP32", "INT8"))):
            for quantization in types:
                with self.subTest(format=format, quantization=quantization):
                    self.run_program(ANNEAL, "export", "--pipeline_config_path", config, "--edit_config_json", edits, "--export_dir",
                                     self.dir / (format + quantization), "--format", format, "--quantization", quantization, env={"ANNEAL_COMPILER_PYTHON": COMPILER})
        model = torch.jit.load(self.dir / "TorchScriptFP32/scripted_model.pt")
        data = {name: torch.ones(2, dtype=torch.int64) for id in ids for name in (id + ".values", id + ".lengths")}
        data.update({id + ".weights": torch.ones(2) for id in ids}, **{"age.values": torch.zeros(2, 1), "hist.values": torch.zeros(2, 1)})
        data["kvtags.weights"] = torch.tensor([1.0, 3.0])
        logits = model(data)["logits"]
        self.assertGreater((logits[0] - logits[1]).abs().item(), 1e-6)

    def test_a_killed_export_takes_its_compiler_with_it(self):
        """What it leaves is no obstacle for the next one."""
        slow, running = self.dir / "slow_python", self.dir / "running"
        slow.write_text(f"#!/bin/sh\necho $$ > {running}.new; mv {running}.new {running}; exec sleep 1000\n")
        slow.chmod(0o755)
        command = [ANNEAL, "export", "--pipeline_config_path", ZOO / "deepfm/pipeline.config", "--checkpoint_path",
                   ZOO / "deepfm/export/QUANT_EMB=0/scripted_state.safetensors", "--verify_input_path", ZOO / "data/multi_eval.parquet", "--export_dir", self.dir / "model"]
        run = subprocess.Popen([*map(str, command), "--format", "AOT", "--compiler_python", slow], stderr=subprocess.DEVNULL, cwd=self.dir)
        wait_for(running.exists)
        self.run_program(*command, expect=64)  # another process is exporting to it
        run.kill()
        run.wait()
        wait_for(lambda: not pathlib.Path("/proc", running.read_text().strip()).exists())
        self.assertFalse((self.dir / "model").exists())
        self.run_program(*command)
        self.assertEqual({path.name for path in self.dir.iterdir()}, {"slow_python", "running", "model"})
        self.assertFalse((self.dir / "model/aoti").exists())

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
