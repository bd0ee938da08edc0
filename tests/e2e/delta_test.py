"""Delta embedding dumps: the rows that training looked up, read by pyarrow, against the data's ids and the checkpoint's weights."""
import json
import shutil
import unittest

import numpy
import pyarrow
import pyarrow.parquet

from harness import ANNEAL, GOLDEN, Case, edits, weights

ZOO = GOLDEN / "zoo"
DATA = ZOO / "data/rank_train.parquet"
DUMP = "train_config.delta_embedding_dump_config."
TABLES = "model.embedding_group.emb_impls.__BASE__.ebc.embedding_bags."
FEATURES = ["user_id", "item_id", "cate", "city", "brand", "tags", "price_bkt"]
COLUMNS = pyarrow.schema([("global_step", pyarrow.int64()), ("rank", pyarrow.int32()), ("world_size", pyarrow.int32()),
                          ("feature_name", pyarrow.string()), ("table_fqn", pyarrow.string()), ("key_id", pyarrow.int64()),
                          ("embedding", pyarrow.list_(pyarrow.float32())), ("source", pyarrow.string())])
BATCH = 256


@unittest.skipUnless(ZOO.exists(), "the golden files are not on this machine")
class Delta(Case):
    def setUp(self):
        super().setUp()
        self.data = {name: pyarrow.parquet.read_table(DATA, columns=[name])[name].to_pylist() for name in FEATURES}

    def train(self, model, *more, ranks=1, expect=0, **config):
        config = {"train_config.num_steps": 12, "train_config.save_checkpoints_steps": 5, DUMP + "dump_interval_steps": 5,
                  "data_config.batch_size": BATCH // ranks, **config}
        launcher = ["launch", "--nnodes", 1, "--nproc-per-node", ranks, "--"] if ranks > 1 else []
        return self.run_program(ANNEAL, *launcher, "train", "--pipeline_config_path", ZOO / "deepfm/pipeline.config", "--model_dir",
                                self.dir / model, "--train_input_path", DATA, "--edit_config_json",
                                json.dumps({"eval_input_path": "", **config}), *more, expect=expect)

    def files(self, model, step, ranks=1):
        folder = self.dir / model / "delta_embedding_dump"
        if ranks == 1:
            return [folder / f"delta_embedding_step_{step}.parquet"]
        return [folder / f"step_{step}/delta_embedding_step_{step}_rank_{r}_of_{ranks}.parquet" for r in range(ranks)]

    def ids(self, first, last, ranks):
        """feature -> ids that steps first to last read: every rank has a part of the file to itself"""
        share, size = len(self.data["cate"]) // ranks, BATCH // ranks
        rows = [part * share + i for part in range(ranks) for i in range(first * size, (last + 1) * size)]
        found = {}
        for name, column in self.data.items():
            values = [column[i] for i in rows]
            if name == "tags":
                values = [tag for tags in values for tag in tags or []]
            if name == "brand":
                values = [3 if value is None else value for value in values]  # fg_encoded_default_value
            found[name] = {value for value in values if value is not None}
        return found

    def check(self, model, first, last, ranks=1):
        """The dump of step `last` has what the steps since `first` looked up, with the weights of the checkpoint of that step."""
        self.run_program(ANNEAL, "checkpoint", "convert", self.dir / model / f"model.ckpt-{last}", self.dir / f"whole-{model}", "--to", "safetensors")
        saved = weights(self.dir / f"whole-{model}/model.ckpt-{last}")
        tables = [pyarrow.parquet.read_table(path) for path in self.files(model, last, ranks)]
        for rank, table in enumerate(tables):
            self.assertEqual(table.schema, COLUMNS)
            for name, value in (("global_step", last), ("rank", rank), ("world_size", ranks), ("source", "model_delta_tracker")):
                self.assertEqual(set(table[name].to_pylist()) - {value}, set(), name)
        rows = [row for table in tables for row in table.select(COLUMNS.names[3:7]).to_pylist()]
        seen = {}
        for row in rows:
            self.assertNotIn(row["key_id"], seen.setdefault((row["feature_name"], row["table_fqn"]), {}), "a row is dumped once")
            seen[row["feature_name"], row["table_fqn"]][row["key_id"]] = row["embedding"]
        ids = self.ids(first, last, ranks)
        self.assertEqual(set(seen), {(name, f"{TABLES}{name}_emb{kind}") for name in FEATURES for kind in ("", "_wide")})
        for (name, fqn), found in seen.items():
            self.assertEqual(set(found), ids[name], fqn)
            width = len(next(iter(found.values())))
            whole = numpy.frombuffer(saved[fqn + ".weight"], dtype=numpy.float32).reshape(-1, width)
            for key, values in found.items():
                numpy.testing.assert_array_equal(numpy.float32(values), whole[key], fqn)
        return rows

    def test_one_rank(self):
        text = self.train("m")
        for first, last in ((0, 5), (6, 10), (11, 11)):
            rows = self.check("m", first, last)
            self.assertIn(f"Dumped {len(rows)} delta embedding rows to {self.files('m', last)[0]}.", text)
        self.assertEqual(len(list((self.dir / "m/delta_embedding_dump").iterdir())), 3)
        # The last step is an interval's: it is dumped once.
        self.train("even", **{"train_config.num_steps": 11, DUMP + "output_dir": str(self.dir / "out"), DUMP + "file_prefix": "rows"})
        self.assertEqual(sorted(path.name for path in (self.dir / "out").iterdir()), ["rows_step_10.parquet", "rows_step_5.parquet"])
        # By minutes: none is over, only the end is dumped.
        self.run_program(ANNEAL, "train", "--pipeline_config_path", ZOO / "deepfm/pipeline.config", "--model_dir", self.dir / "minutes",
                         "--train_input_path", DATA, "--edit_config_json",
                         json.dumps({"eval_input_path": "", "train_config.num_steps": 12, DUMP + "dump_interval_minutes": 600}))
        self.check("minutes", 0, 11)
        self.assertEqual(len(list((self.dir / "minutes/delta_embedding_dump").iterdir())), 1)

    def sharded(self, sharding, ranks):
        self.train("m", ranks=ranks, **{"train_config.global_embedding_constraints.sharding_types": [sharding],
                                        "train_config.global_embedding_constraints.compute_kernels": ["fused", "dense"]})
        for first, last in ((0, 5), (6, 10), (11, 11)):
            self.check("m", first, last, ranks)

    def test_table_wise(self):
        self.sharded("table_wise", 2)

    def test_row_wise(self):
        self.sharded("row_wise", 2)

    def test_column_wise(self):
        self.sharded("column_wise", 2)

    def test_grid(self):
        self.sharded("grid_shard", 4)

    def test_data_parallel(self):
        self.sharded("data_parallel", 2)

    def test_a_resumed_run_dumps_what_the_killed_one_had_not(self):
        every = {"train_config.save_checkpoints_steps": 3}
        self.train("m", **every)
        want = {step: pyarrow.parquet.read_table(self.files("m", step)[0]) for step in (5, 10, 11)}
        # As if it had been killed after the checkpoint of step 3.
        for path in [*(self.dir / "m").glob("model.ckpt-*"), self.dir / "m/delta_embedding_dump"]:
            if path.name != "model.ckpt-3":
                shutil.rmtree(path)
        shutil.copytree(self.dir / "m", self.dir / "two")
        self.train("m", "--continue_train", **every)
        for step, table in want.items():
            self.assertEqual(pyarrow.parquet.read_table(self.files("m", step)[0]), table, step)
        self.train("two", "--continue_train", ranks=2, **every)
        keys = {(row["table_fqn"], row["key_id"]) for path in self.files("two", 5, 2) for row in pyarrow.parquet.read_table(path).to_pylist()}
        for name, ids in self.ids(0, 3, 1).items():
            self.assertLessEqual({(f"{TABLES}{name}_emb", key) for key in ids}, keys)

    def test_what_could_not_be_written_waits(self):
        (self.dir / "m").mkdir()
        (self.dir / "m/delta_embedding_dump").write_text("a file where a folder has to be")
        text = self.train("m", expect=75)
        for step in (5, 10, 11):
            self.assertIn(f"the delta embedding rows of step {step} wait for the next dump", text)
        self.assertIn("the last delta embedding dump could not be written", text)
        (self.dir / "m/delta_embedding_dump").unlink()
        self.train("m", "--continue_train")
        self.check("m", 0, 11)

    def test_quantised_rows(self):
        quantised = {DUMP + "quant_type": "DELTA_EMBEDDING_QUANT_INT8"}
        self.train("m", **quantised)
        self.train("plain")
        for step in (5, 10, 11):
            codes, plain = (pyarrow.parquet.read_table(self.files(model, step)[0]) for model in ("m", "plain"))
            self.assertEqual(codes.schema.field("embedding").type, pyarrow.list_(pyarrow.uint8()))
            self.assertEqual(codes.drop_columns("embedding"), plain.drop_columns("embedding"))
            for got, want in zip(codes["embedding"].to_pylist(), plain["embedding"].to_pylist()):
                got, want = numpy.uint8(got), numpy.float32(want)
                scale, offset = (numpy.float32(half) for half in got[-4:].view(numpy.float16))
                self.assertEqual(offset, numpy.float32(numpy.float16(want.min())))
                self.assertEqual(scale, numpy.float32(numpy.float16((want.max() - offset) / numpy.float32(255))))
                numpy.testing.assert_array_equal(got[:-4], numpy.rint((want - offset) / scale).clip(0, 255))
                numpy.testing.assert_allclose(got[:-4] * scale + offset, want, atol=float(scale), rtol=0)
        text = self.train("odd", expect=64, **quantised, **{"model_config.deepfm.wide_embedding_dim": 5})
        self.assertIn("needs an even embedding_dim; table user_id_emb_wide has 5", text)

    def test_without_it_nothing_is_left(self):
        self.run_program(ANNEAL, "train", "--pipeline_config_path", ZOO / "deepfm/pipeline.config", "--model_dir", self.dir / "m",
                         "--train_input_path", DATA, "--edit_config_json", edits(eval_input_path="", train_config__num_steps=2))
        self.assertFalse((self.dir / "m/delta_embedding_dump").exists())
        self.assertFalse((self.dir / "m/model.ckpt-1/delta_embedding_rows.json").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
