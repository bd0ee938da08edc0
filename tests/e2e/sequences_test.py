"""Models with sequences as a user runs them: ranks, resuming, files of text, exports that torch loads, dumps, conversion."""
import json
import unittest

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
import torch

from harness import ANNEAL, GOLDEN, TWO_RANKS, Case, edits, scalars, weights

ZOO = GOLDEN / "zoo"
DATA, EVAL = ZOO / "data/seq_train.parquet", ZOO / "data/seq_eval.parquet"
PLAIN, ELEMENTS = "model.embedding_group.emb_impls.__BASE__.ebc", "model.embedding_group.seq_emb_impls.__BASE__.ec_dict.8"


@unittest.skipUnless(ZOO.exists(), "the golden files are not on this machine")
class Sequences(Case):
    def config(self, case, model, *more, data=DATA, **config):
        return ["--pipeline_config_path", ZOO / case / "pipeline.config", "--edit_config_json",
                edits(**{"train_input_path": str(data), "eval_input_path": str(EVAL), "model_dir": str(self.dir / model),
                         "train_config.use_tensorboard": True, **config}), *more]

    def train(self, case, model, *more, **config):
        return self.run_program(ANNEAL, "train", *self.config(case, model, *more, **config))

    def saved(self, model, step=19):
        """The whole tables of a checkpoint of any number of ranks."""
        self.run_program(ANNEAL, "checkpoint", "convert", self.dir / model / f"model.ckpt-{step}", self.dir / f"whole-{model}-{step}",
                         "--to", "safetensors")
        return weights(self.dir / f"whole-{model}-{step}/model.ckpt-{step}")

    def test_two_ranks_learn_what_one_learns(self):
        # Rows in an order in which the ranks' parts make the same global batches as one rank.
        order = [b * 256 + part * 128 + i for part in range(2) for b in range(20) for i in range(128)]
        rows = self.dir / "rows.parquet"
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(DATA).take(pyarrow.array(order)), rows)
        # Statistics of Dice and batch norm are a rank's own: without them.
        without = {"dbmtl_seq": {}, "multi_tower_din": {"model_config.multi_tower_din.din_towers[0].attn_mlp.activation": "nn.ReLU"},
                   "tdm": {"model_config.tdm.final.use_bn": False}}
        for case, changes in without.items():
            self.train(case, f"{case}-one", **changes)
            one = scalars(self.dir / f"{case}-one")
            for sharding in ("row_wise", "column_wise"):
                model = f"{case}-{sharding}"
                text = self.launch(*TWO_RANKS, "train", *self.config(
                    case, model, data=rows, data_config__batch_size=128,
                    train_config__global_embedding_constraints__sharding_types=[sharding], **changes))
                self.assertRegex(text, rf"item_emb( \(ec_dict\.8\))? +200 x 8 +{sharding} +fused +0-1 ")
                plan = json.loads((self.dir / model / "model.ckpt-19/plan").read_text())
                pooled = {"user_id_emb", "city_emb"} | (set() if case == "tdm" else {"item_emb", "cate_emb"})
                self.assertEqual({name: set(tables) for name, tables in plan.items()}, {PLAIN: pooled, ELEMENTS: {"item_emb", "cate_emb"}})
                seen = scalars(self.dir / model)
                losses = [key for key in one if key[0].startswith("loss/")]
                self.assertEqual({step for _, step in losses}, set(range(20)))
                for name, step in losses:
                    self.assertLessEqual(abs(seen[name, step] - one[name, step]), 1e-5 * abs(one[name, step]), f"{model}, step {step}")
                # What two ranks saved, one evaluates.
                self.run_program(ANNEAL, "eval", *self.config(case, model, **changes))
                result = json.loads((self.dir / model / "eval_result.txt").read_text())
                during = json.loads((self.dir / model / "train_eval_result_v2.txt").read_text().splitlines()[-1])
                for name, value in during.items():
                    self.assertAlmostEqual(result[name], value, delta=1e-6)

    def test_stopped_and_continued_is_bit_identical(self):
        for case, ranks in (("dbmtl_seq", 1), ("dbmtl_seq", 2), ("tdm", 2)):
            launcher = ["launch", "--nproc-per-node", ranks, "--"] if ranks > 1 else []
            for model, steps in (("whole", [20]), ("parts", [9, 20])):
                for part, last in enumerate(steps):
                    self.run_program(ANNEAL, *launcher, "train", *self.config(
                        case, f"{case}-{model}-{ranks}", *(["--continue_train"] if part else []), train_config__num_steps=last,
                        data_config__batch_size=256 // ranks, data_config__shuffle=True))
            self.assertEqual(self.saved(f"{case}-whole-{ranks}"), self.saved(f"{case}-parts-{ranks}"))

    def test_text_gives_what_lists_give(self):
        sequences = ["click_seq__item_id", "click_seq__cate", "click_seq__price"]
        table = pyarrow.parquet.read_table(DATA, columns=["user_id", "item_id", "cate", "city", "age", "price", "clk", *sequences])
        for name in table.column_names:
            if name in sequences:
                texts = [";".join(map(str, cell)) if cell else "" for cell in table[name].to_pylist()]
                table = table.set_column(table.column_names.index(name), name, pyarrow.array(texts))
        rows = self.dir / "rows.csv"
        pyarrow.csv.write_csv(table, rows, pyarrow.csv.WriteOptions(quoting_style="none"))
        self.train("multi_tower_din", "lists", eval_input_path="")
        self.train("multi_tower_din", "text", data=rows, data_config__dataset_type="CsvDataset", data_config__with_header=True,
                   eval_input_path="")
        self.assertEqual(weights(self.dir / "text/model.ckpt-19"), weights(self.dir / "lists/model.ckpt-19"))

    def test_torch_loads_the_export(self):
        for case, outputs in (("multi_tower_din", ["probs"]), ("dbmtl_seq", ["probs_ctr", "probs_cvr"]), ("dbmtl_seq_selfattn", ["probs_ctr"])):
            rows = ZOO / "data/seqfix_eval.parquet" if case.endswith("selfattn") else EVAL
            data = ZOO / "data/seqfix_train.parquet" if case.endswith("selfattn") else DATA
            self.train(case, case, data=data, eval_input_path="")
            common = self.config(case, case, data=data)
            self.run_program(ANNEAL, "export", *common, "--quantization", "FP32", "--export_dir", self.dir / f"{case}-x",
                             "--verify_input_path", rows)
            for source, more in (("export", ["--scripted_model_path", self.dir / f"{case}-x"]), ("checkpoint", common)):
                self.run_program(ANNEAL, "predict", *more, "--predict_input_path", rows, "--predict_output_path",
                                 self.dir / f"{case}-{source}")
            one, two = (pyarrow.parquet.read_table(self.dir / f"{case}-{source}/part-0.parquet") for source in ("export", "checkpoint"))
            # The features as Python reads them, of three rows that the longest sequence is not among.
            table = pyarrow.parquet.read_table(rows).slice(3, 3)
            data = {}
            for name in ("user_id", "item_id", "cate", "city"):
                cells = table[name].to_pylist()
                data[name + ".values"] = torch.tensor([c for c in cells if c is not None], dtype=torch.int64)
                data[name + ".lengths"] = torch.tensor([int(c is not None) for c in cells], dtype=torch.int64)
            for name in ("age", "price"):
                data[name + ".values"] = torch.tensor(table[name].to_pylist(), dtype=torch.float32).reshape(-1, 1)
            for name, kind in (("item_id", torch.int64), ("cate", torch.int64), ("price", torch.float32)):
                cells = [cell or [] for cell in table["click_seq__" + name].to_pylist()]
                values = torch.tensor([value for cell in cells for value in cell], dtype=kind)
                data[f"click_seq__{name}.values"] = values if name != "price" else values.reshape(-1, 1)
                data[f"click_seq__{name}.lengths"] = torch.tensor([len(cell) for cell in cells])
            answers = torch.jit.load(str(self.dir / f"{case}-x/scripted_model.pt"))(data)
            for output in outputs:
                numpy.testing.assert_allclose(one[output].to_numpy(), two[output].to_numpy(), atol=1e-6)
                numpy.testing.assert_allclose(answers[output].detach().numpy(), one[output].to_numpy()[3:6], atol=1e-6)

    def test_dumps_and_conversion_know_both_tables_of_a_name(self):
        dump = "train_config.delta_embedding_dump_config.dump_interval_steps"
        self.train("multi_tower_din", "m", train_config__num_steps=7, **{dump: 5, "train_config.save_checkpoints_steps": 5})
        rows = pyarrow.parquet.read_table(self.dir / "m/delta_embedding_dump/delta_embedding_step_5.parquet").to_pylist()
        table = pyarrow.parquet.read_table(DATA).slice(0, 6 * 256)
        queries = {cell for cell in table["item_id"].to_pylist() if cell is not None}
        clicked = {item for cell in table["click_seq__item_id"].to_pylist() for item in cell or []}
        saved = self.saved("m", 5)
        for fqn, kind, want in ((PLAIN, "embedding_bags", queries), (ELEMENTS, "embeddings", queries | clicked)):
            name = f"{fqn}.{kind}.item_emb"
            dumped = {row["key_id"]: row["embedding"] for row in rows if row["table_fqn"] == name}
            self.assertEqual(set(dumped), want)
            values = numpy.frombuffer(saved[name + ".weight"], numpy.float32).reshape(-1, 8)
            for key, embedding in dumped.items():
                numpy.testing.assert_array_equal(values[key], numpy.float32(embedding))
        # To the other format of checkpoints, and evaluated from it.
        self.run_program(ANNEAL, "checkpoint", "convert", self.dir / "m", self.dir / "dcp", "--to", "dcp")
        for folder in ("m", "dcp"):
            self.run_program(ANNEAL, "eval", *self.config("multi_tower_din", folder, "--checkpoint_path", self.dir / folder / "model.ckpt-6"))
        one, two = (json.loads((self.dir / folder / "eval_result.txt").read_text()) for folder in ("m", "dcp"))
        self.assertEqual(one, two)

    def test_ids_outside_their_tables_are_told(self):
        text = self.train("multi_tower_din", "m", train_config__num_steps=2, **{"feature_configs[0].id_feature.num_buckets": 100})
        self.assertRegex(text, r"\[WARNING\] \d+ ids so far were outside of their table and count as row 0")
        self.assertNotIn("outside of their table", self.train("multi_tower_din", "good", train_config__num_steps=2))

    def test_empty_sequences_and_bf16(self):
        # No row has an element: padding alone. And half precision, within its rounding of float32.
        table = pyarrow.parquet.read_table(DATA)
        for name in ("click_seq__item_id", "click_seq__cate", "click_seq__price"):
            kind = table.schema.field(name).type
            table = table.set_column(table.column_names.index(name), name, pyarrow.array([[]] * len(table), kind))
        pyarrow.parquet.write_table(table, self.dir / "empty.parquet")
        for case in ("dbmtl_seq", "tdm"):
            self.train(case, f"{case}-empty", data=self.dir / "empty.parquet")
            saved = weights(self.dir / f"{case}-empty/model.ckpt-19")
            self.assertTrue(all(numpy.isfinite(numpy.frombuffer(raw, numpy.float32)).all() for raw in saved.values()))
            self.train(case, f"{case}-float")
            self.train(case, f"{case}-half", train_config__mixed_precision="BF16")
            one, two = scalars(self.dir / f"{case}-float"), scalars(self.dir / f"{case}-half")
            for key in one:
                if key[0].startswith("loss/"):
                    self.assertLessEqual(abs(two[key] - one[key]), 2e-2 * abs(one[key]))

    def test_a_tdm_predicts_from_its_checkpoint_and_its_export(self):
        self.train("tdm", "m")
        self.run_program(ANNEAL, "predict", *self.config("tdm", "m"), "--predict_input_path", EVAL, "--predict_output_path", self.dir / "p",
                         "--reserved_columns", "clk")
        found = pyarrow.parquet.read_table(self.dir / "p/part-0.parquet")
        self.assertEqual(found.column_names, ["logits", "probs", "probs1", "clk"])
        right = numpy.where(found["clk"].to_numpy() == 1, found["probs1"].to_numpy(), 1 - found["probs1"].to_numpy())
        during = json.loads((self.dir / "m/train_eval_result_v2.txt").read_text())
        self.assertAlmostEqual(during["softmax_cross_entropy"], -numpy.log(right).mean(), delta=2e-6)
        # The scorer, which retrieval asks, is exported; what it says is what the checkpoint says.
        (self.dir / "serving_tree").write_text("2 2\n")
        self.run_program(ANNEAL, "export", *self.config("tdm", "m"), "--export_dir", self.dir / "x", "--quantization", "FP32",
                         "--asset_files", self.dir / "serving_tree")
        self.run_program(ANNEAL, "predict", "--scripted_model_path", self.dir / "x/model", "--predict_input_path", EVAL, "--predict_output_path", self.dir / "q")
        one, two = (pyarrow.parquet.read_table(self.dir / out / "part-0.parquet")["probs1"].to_pylist() for out in ("p", "q"))
        self.assertLessEqual(max(abs(a - b) for a, b in zip(one, two)), 1e-6)
        self.assertEqual([(self.dir / "x" / part / "serving_tree").exists() for part in ("model", "embedding")], [True, False])
        # What items are known by: rows of the tables beside one another. A file of items has no columns of users.
        self.run_program(ANNEAL, "predict", "--scripted_model_path", self.dir / "x/embedding", "--predict_input_path", ZOO / "data/items.parquet",
                         "--predict_output_path", self.dir / "e")
        found, saved = pyarrow.parquet.read_table(self.dir / "e/part-0.parquet"), weights(self.dir / "m/model.ckpt-19")
        self.assertEqual(found.column_names, ["item_emb"])
        items = pyarrow.parquet.read_table(ZOO / "data/items.parquet")
        tables = [numpy.frombuffer(saved[f"model.embedding_group.seq_emb_impls.__BASE__.ec_dict.8.embeddings.{name}_emb.weight"],
                                   numpy.float32).reshape(-1, 8)[items[column].to_numpy()]
                  for name, column in (("item", "item_id"), ("cate", "cate"))]
        self.assertLessEqual(numpy.abs(numpy.concatenate(tables, 1) - numpy.array(found["item_emb"].to_pylist())).max(), 1e-7)

    def tree(self, **settings):
        """Edits for a tree of four levels over the 200 items, whose leaves they are: 4 groups of 2 groups."""
        items = {item["item_id"]: item for item in pyarrow.parquet.read_table(ZOO / "data/items.parquet").to_pylist()}
        above = lambda item: (192 + item % 8, 188 + item % 4)  # ids of items that nobody has: inner nodes
        leaves = [item for item in items if item < 187]
        levels = {187: 0, **{188 + i: 1 for i in range(4)}, **{192 + i: 2 for i in range(8)}, **{item: 3 for item in leaves}}
        head = ["src:int64\tdst:int64\tweight:float"]
        nodes = [f"{node}\t1\t{level},{node},{items[node]['cate']},{items[node]['price']}" for node, level in levels.items()]
        edges = [f"{item}\t{node}\t1" for item in leaves for node in above(item)]
        down = [f"187\t{188 + i}\t1" for i in range(4)] + [f"{188 + i % 4}\t{192 + i}\t1" for i in range(8)] + \
            [f"{above(item)[0]}\t{item}\t1" for item in leaves]
        for name, lines in (("nodes", ["id:int64\tweight:float\tfeature:string", *nodes]), ("edges", head + edges), ("down", head + down)):
            (self.dir / f"{name}.txt").write_text("\n".join(lines) + "\n")
        known = pyarrow.compute.less(pyarrow.compute.fill_null(pyarrow.parquet.read_table(DATA)["item_id"], 999), 187)
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(DATA).filter(known), self.dir / "known.parquet")
        fields = {"item_input_path": str(self.dir / "nodes.txt"), "edge_input_path": str(self.dir / "edges.txt"),
                  "predict_edge_input_path": str(self.dir / "down.txt"), "attr_fields": ["cate", "price"], "item_id_field": "item_id",
                  "attr_delimiter": ",", "layer_num_sample": [0, 1, 2, 3], **settings}
        return {f"data_config.tdm_sampler.{field}": value for field, value in fields.items()} | {
            "train_input_path": str(self.dir / "known.parquet"), "eval_input_path": str(self.dir / "known.parquet"), "eval_config.num_steps": 3,
            "data_config.batch_size": 64, "train_config.num_steps": 20}

    def test_nodes_of_a_tree(self):
        config = self.tree()
        text = self.train("tdm", "whole", **config)
        self.train("tdm", "parts", **{**config, "train_config.num_steps": 7})
        self.train("tdm", "parts", "--continue_train", **config)
        one, two = (weights(self.dir / f"{model}/model.ckpt-19") for model in ("whole", "parts"))
        self.assertEqual(one, two)
        during = json.loads((self.dir / "whole/train_eval_result_v2.txt").read_text())
        # Of a row's 9 only the ancestors are always right: a constant answer would give about the entropy of that.
        self.assertLess(during["softmax_cross_entropy"], 0.75, text)
        self.run_program(ANNEAL, "eval", *self.config("tdm", "whole", **config))
        again = json.loads((self.dir / "whole/eval_result.txt").read_text())
        self.assertEqual((again["softmax_cross_entropy"], again["auc"]), (during["softmax_cross_entropy"], during["auc"]))
        # Two ranks draw for their own rows.
        self.launch(*TWO_RANKS, "train", *self.config("tdm", "ranks", **{**config, "data_config.batch_size": 32}))
        # Prediction and export know no sampler.
        for table in ("nodes", "edges", "down"):
            (self.dir / f"{table}.txt").unlink()
        self.run_program(ANNEAL, "predict", *self.config("tdm", "whole", **config), "--predict_input_path", EVAL, "--predict_output_path", self.dir / "p")
        self.run_program(ANNEAL, "export", *self.config("tdm", "whole", **config), "--export_dir", self.dir / "x")
        check = self.run_program(ANNEAL, "check", ZOO / "tdm/pipeline.config", "--edit_config_json", edits(**config), expect=64)
        self.assertIn("data_config.tdm_sampler.item_input_path: there is no file", check)

    def test_items_that_the_tree_has_not(self):
        text = self.run_program(ANNEAL, "train", *self.config("tdm", "m", **{**self.tree(), "train_input_path": str(DATA)}), expect=78)
        self.assertRegex(text, r"seq_train.parquet row \d+, column item_id: the item is no leaf of .*nodes.txt")


if __name__ == "__main__":
    unittest.main(verbosity=2)
