"""Generative rankers as a user runs them: ranks, resuming, channels, lists in predictions, exports that torch loads, wrong data."""
import json
import unittest

import numpy
import pyarrow
import pyarrow.parquet
import torch

from harness import ANNEAL, GOLDEN, TWO_RANKS, Case, edits, scalars, weights

ZOO = GOLDEN / "zoo"
DATA, EVAL = ZOO / "data/hstu_train.parquet", ZOO / "data/hstu_eval.parquet"
JRC = 'jrc_loss {\n            session_name: "user_id"\n          }'
COUNTS = "__TARGET_REPEAT_INTERLEAVE_KEY__"
LABELS = ("cand_seq__action_weight", "cand_seq__watch_time")


def softmax_instead_of_jrc():
    """The losses of candidates each for itself: a jrc_loss is of the rows of one rank."""
    text = (ZOO / "dlrm_hstu/pipeline.config").read_text()
    assert JRC in text
    return text.replace(JRC, "softmax_cross_entropy { }")


def interleaved(text):
    return text.replace("contextual_preprocessor {", "contextual_interleave_preprocessor {")


def groups_of(text, name):
    """The history's groups once more for another channel."""
    start, end = text.index("  feature_groups {"), text.rindex("  dlrm_hstu {")
    groups = ["  feature_groups {" + part for part in text[start:end].split("  feature_groups {")[1:]]
    return "".join(group.replace('group_name: "uih', f'group_name: "{name}') for group in groups if 'group_name: "uih' in group)


def two_channels(text):
    start = text.index("    hstu {\n")
    end = text.index("    fusion_mtl_tower {")
    channel = text[start:end]
    channels = channel.replace("    hstu {\n", '    hstu {\n      name: "uih"\n') + channel.replace("    hstu {\n", '    hstu {\n      name: "short"\n').replace(
        "embedding_dim: 16", "embedding_dim: 8\n        sla_k1: 2")
    return text[:text.rindex("  dlrm_hstu {")] + groups_of(text, "short") + "  ultra_hstu {\n" + channels + text[end:]


@unittest.skipUnless(ZOO.exists(), "the golden files are not on this machine")
class Rankers(Case):
    def config(self, model, text=None, *more, data=DATA, **config):
        path = self.dir / "pipeline.config"
        path.write_text(text or (ZOO / "dlrm_hstu/pipeline.config").read_text())
        return ["--pipeline_config_path", path, "--edit_config_json",
                edits(**{"train_input_path": str(data), "eval_input_path": str(EVAL), "model_dir": str(self.dir / model),
                         "train_config.use_tensorboard": True, **config}), *more]

    def train(self, model, text=None, *more, expect=0, **config):
        return self.run_program(ANNEAL, "train", *self.config(model, text, *more, **config), expect=expect)

    def losses(self, model):
        return {key: value for key, value in scalars(self.dir / model).items() if key[0].startswith("loss/")}

    def predicted(self, out, *command, data=EVAL):
        self.run_program(ANNEAL, "predict", *command, "--predict_input_path", data, "--predict_output_path", self.dir / out)
        return pyarrow.parquet.read_table(self.dir / out / "part-0.parquet")

    def test_two_ranks_learn_what_one_learns(self):
        # Rows in an order in which the ranks' parts make the same global batches as one rank. They have other numbers of candidates.
        order = [b * 64 + part * 32 + i for part in range(2) for b in range(20) for i in range(32)]
        rows = self.dir / "rows.parquet"
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(DATA).take(pyarrow.array(order)), rows)
        text = softmax_instead_of_jrc()
        for name, config in (("plain", text), ("channels", two_channels(interleaved(text)))):
            self.train(f"{name}-one", config)
            one = self.losses(f"{name}-one")
            self.assertEqual({step for _, step in one}, set(range(20)))
            for sharding in ("row_wise", "column_wise"):
                model = f"{name}-{sharding}"
                self.launch(*TWO_RANKS, "train", *self.config(
                    model, config, data=rows, data_config__batch_size=32,
                    train_config__global_embedding_constraints__sharding_types=[sharding]))
                seen = self.losses(model)
                self.assertEqual(seen.keys(), one.keys())
                for key, want in one.items():
                    self.assertLessEqual(abs(seen[key] - want), 2e-5 * abs(want), f"{model}: {key}")
                # What two ranks saved, one evaluates.
                self.run_program(ANNEAL, "eval", *self.config(model, config))
                result = json.loads((self.dir / model / "eval_result.txt").read_text())
                during = json.loads((self.dir / model / "train_eval_result_v2.txt").read_text().splitlines()[-1])
                for metric, value in during.items():
                    self.assertAlmostEqual(result[metric], value, delta=1e-6, msg=metric)
        # Each rank's mean for itself is another one.
        self.launch(*TWO_RANKS, "train", *self.config("means", text, data=rows, data_config__batch_size=32, train_config__num_steps=1,
                                                      model_config__dlrm_hstu__enable_global_average_loss=False))
        one, means = self.losses("plain-one"), self.losses("means")
        self.assertTrue(any(abs(means[key] - one[key]) > 1e-4 * abs(one[key]) for key in means))

    def test_a_rank_without_rows_counts_for_nothing(self):
        rows = self.dir / "rows.parquet"
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(DATA).slice(0, 1), rows)
        text = softmax_instead_of_jrc()
        self.train("one", text, data=rows, train_config__num_steps=1)
        self.launch(*TWO_RANKS, "train", *self.config("two", text, data=rows, train_config__num_steps=1))
        one, two = self.losses("one"), self.losses("two")
        self.assertEqual(one.keys(), two.keys())
        self.assertGreater(len(one), 1)
        for key, value in one.items():
            self.assertAlmostEqual(two[key] / value, 1, delta=1e-5, msg=key)

    def test_stopped_and_continued_is_bit_identical(self):
        text = interleaved((ZOO / "dlrm_hstu/pipeline.config").read_text()).replace("output_dropout_ratio: 0.0", "output_dropout_ratio: 0.1")
        for model, steps in (("whole", [20]), ("parts", [9, 20])):
            for part, last in enumerate(steps):
                self.train(model, text, *(["--continue_train"] if part else []), train_config__num_steps=last, data_config__shuffle=True)
        self.assertEqual(weights(self.dir / "whole/model.ckpt-19"), weights(self.dir / "parts/model.ckpt-19"))

    def test_one_channel_is_dlrm_hstu(self):
        text = (ZOO / "dlrm_hstu/pipeline.config").read_text()
        self.train("dlrm", text, train_config__num_steps=5)
        self.train("ultra", text.replace("  dlrm_hstu {", "  ultra_hstu {"), train_config__num_steps=5)
        self.assertEqual(weights(self.dir / "dlrm/model.ckpt-4"), weights(self.dir / "ultra/model.ckpt-4"))
        self.train("two", two_channels(text), train_config__num_steps=2)
        names = weights(self.dir / "two/model.ckpt-1")
        self.assertIn("model._hstu_transducer._transducers.1._stu_module._stu_layers.1._uvqk_weight", names)

    def test_kernels_and_hints_change_nothing(self):
        text = (ZOO / "dlrm_hstu/pipeline.config").read_text()
        self.train("plain", text, train_config__num_steps=3)
        hints = text.replace("kernel: PYTORCH", "kernel: CUTLASS").replace(
            "embedding_dim: 16\n", "embedding_dim: 16\n recompute_uvqk: false recompute_y: false recompute_normed_x: false sort_by_length: false\n")
        self.assertNotEqual(text, hints)
        self.train("hints", hints, train_config__num_steps=3)
        self.assertEqual(weights(self.dir / "plain/model.ckpt-2"), weights(self.dir / "hints/model.ckpt-2"))

    def test_the_newest_first_is_the_oldest_first_turned_round(self):
        text = softmax_instead_of_jrc()
        table = pyarrow.parquet.read_table(DATA)
        for name in table.column_names:
            if pyarrow.types.is_list(table.schema.field(name).type):
                cells = pyarrow.array([cell[::-1] for cell in table[name].to_pylist()], table.schema.field(name).type)
                table = table.set_column(table.column_names.index(name), name, cells)
        rows = self.dir / "rows.parquet"
        pyarrow.parquet.write_table(table, rows)
        self.train("oldest", text)
        self.train("newest", text, data=rows, model_config__dlrm_hstu__sequence_timestamp_is_ascending=False)
        one, two = self.losses("oldest"), self.losses("newest")
        for key, want in one.items():
            self.assertLessEqual(abs(two[key] - want), 2e-5 * abs(want), key)

    def test_predictions_and_the_export_agree(self):
        for name, text in (("plain", None), ("channels", two_channels(interleaved(softmax_instead_of_jrc())))):
            self.train(name, text)
            command = self.config(name, text)
            text = self.run_program(ANNEAL, "export", *command, "--export_dir", self.dir / f"{name}-x", "--quantization", "FP32", expect=64)
            self.assertIn("cand_seq_pk", text)
            for refused in ("AOT", "AOTUnified", "ONNX", "TensorRT", "RTP", "Distributed"):
                told = self.run_program(ANNEAL, "export", *command, "--export_dir", self.dir / f"{name}-x", "--format", refused, expect=64)
                self.assertRegex(told, f"--format {refused}: .*model with|RTP serves no sequence_feature")
            told = self.run_program(ANNEAL, "export", *command, "--export_dir", self.dir / f"{name}-x", "--input_tile", "3", expect=64)
            self.assertIn("INPUT_TILE: not supported yet for a model with JAGGED_SEQUENCE groups", told)
            self.run_program(ANNEAL, "export", *command, "--export_dir", self.dir / f"{name}-x", "--quantization", "FP32",
                             "--additional_export_config", '{"cand_seq_pk": "cand_seq"}')
            self.assertEqual(json.loads((self.dir / f"{name}-x/model_acc.json").read_text())["cand_seq_pk"], "cand_seq")
            one = self.predicted(f"{name}-p", *command)
            two = self.predicted(f"{name}-q", "--scripted_model_path", self.dir / f"{name}-x")
            self.assertEqual(one.column_names, two.column_names)
            self.assertNotIn(COUNTS, one.column_names)
            table = pyarrow.parquet.read_table(EVAL)
            candidates = [len(cell) for cell in table["cand_seq__video_id"].to_pylist()]
            for column in one.column_names:
                left, right = one[column].to_pylist(), two[column].to_pylist()
                self.assertEqual([len(cell) for cell in left], candidates)
                numpy.testing.assert_allclose(numpy.concatenate(left), numpy.concatenate(right), atol=1e-5)
            # The losses are those of the evaluation.
            labels = numpy.concatenate(table["cand_seq__action_weight"].to_pylist()) & 1
            probs = numpy.concatenate(one["probs_is_click"].to_pylist())
            loss = -numpy.log(numpy.where(labels == 1, probs, 1 - probs)).mean()
            during = json.loads((self.dir / name / "train_eval_result_v2.txt").read_text().splitlines()[-1])
            self.assertAlmostEqual(during["binary_cross_entropy_is_click"], loss, delta=2e-6)
            # The features as Python reads them, of other rows than the model was traced with.
            few, data = table.slice(5, 4), {}
            for feature in ("user_id", "city"):
                data[feature + ".values"] = torch.tensor(few[feature].to_pylist())
                data[feature + ".lengths"] = torch.ones(4, dtype=torch.int64)
            for feature in table.column_names:
                if feature.startswith(("uih_seq", "cand_seq")) and feature not in LABELS:
                    cells = few[feature].to_pylist()
                    ids = feature.endswith("video_id")
                    values = torch.tensor([value for cell in cells for value in cell], dtype=torch.int64 if ids else torch.float32)
                    data[feature + ".values"] = values if ids else values.reshape(-1, 1)
                    data[feature + ".lengths"] = torch.tensor([len(cell) for cell in cells])
            answers = torch.jit.load(str(self.dir / f"{name}-x/scripted_model.pt"))(data)
            self.assertEqual(answers[COUNTS].tolist(), candidates[5:9])
            want = numpy.concatenate(one["probs_is_click"].to_pylist()[5:9])
            numpy.testing.assert_allclose(answers["probs_is_click"].detach().numpy(), want, atol=1e-5)

    def with_cells(self, name, change):
        table = pyarrow.parquet.read_table(DATA)
        cells = table[name].to_pylist()
        change(cells)
        path = self.dir / f"{name}.parquet"
        kind = table.schema.field(name).type
        pyarrow.parquet.write_table(table.set_column(table.column_names.index(name), name, pyarrow.array(cells, kind)), path)
        return path

    def test_wrong_data_is_named(self):
        def longer(cells):
            cells[70] = cells[70] + [0]

        def null(cells):
            cells[70] = None

        def null_value(cells):
            cells[70] = [None] * len(cells[70])

        def infinite(cells):
            cells[70] = [float("inf")] * len(cells[70])

        count = len(pyarrow.parquet.read_table(DATA)["cand_seq__video_id"][70].as_py())
        together = f"has {count + 1} values, feature cand_seq__video_id has {count}: they belong together"
        for name, change, message in (
                ("cand_seq__action_weight", longer, "row 71: label column cand_seq__action_weight " + together),
                ("cand_seq__query_time", longer, "row 71: feature cand_seq__query_time " + together),
                ("uih_seq__action_timestamp", longer, "row 71: feature uih_seq__action_timestamp has "),
                ("cand_seq__action_weight", null, "row 71, column cand_seq__action_weight: is null"),
                ("cand_seq__action_weight", null_value, "row 71, column cand_seq__action_weight: a value: is null"),
                ("cand_seq__watch_time", infinite, "row 71, column cand_seq__watch_time: a value: is infinite")):
            path = self.with_cells(name, change)
            text = self.train("m", expect=78, data=path)
            self.assertIn(f"{path} {message}", text)
        table = pyarrow.parquet.read_table(DATA)
        first = pyarrow.array([(cell or [0])[0] for cell in table["cand_seq__watch_time"].to_pylist()])
        path = self.dir / "scalar.parquet"
        pyarrow.parquet.write_table(table.set_column(table.column_names.index("cand_seq__watch_time"), "cand_seq__watch_time", first), path)
        text = self.train("m", expect=78, data=path)
        self.assertIn("label column [cand_seq__watch_time] with dtype double: only list of float or int", text)

    def test_rows_without_history_or_candidates(self):
        table = pyarrow.parquet.read_table(DATA)
        for prefix, rows in (("uih_seq", range(0, 600, 3)), ("cand_seq", range(64, 300))):  # the second batch has no candidate
            for name in table.column_names:
                if name.startswith(prefix):
                    cells = table[name].to_pylist()
                    for row in rows:
                        cells[row] = []
                    table = table.set_column(table.column_names.index(name), name, pyarrow.array(cells, table.schema.field(name).type))
        path = self.dir / "rows.parquet"
        pyarrow.parquet.write_table(table, path)
        self.train("m", data=path)
        self.assertTrue(all(numpy.isfinite(value) for value in self.losses("m").values()))
        self.assertEqual(self.losses("m")["loss/l2_loss_watchtime", 1], 0)

    def test_bf16_is_within_its_rounding(self):
        self.train("float")
        self.train("half", train_config__mixed_precision="BF16")
        one, two = self.losses("float"), self.losses("half")
        for key, want in one.items():
            self.assertLessEqual(abs(two[key] - want), 5e-2 * abs(want), key)

    def test_faults_of_a_config_are_all_told(self):
        text = (ZOO / "dlrm_hstu/pipeline.config").read_text()
        for old, new in (('group_name: "candidate_timestamp"', 'group_name: "other"'), ("num_time_buckets: 32", "num_time_buckets: 0"),
                         ("attn_num_layers: 2", "attn_num_layers: 2 attn_truncation_split_layer: 2 attn_truncation_tail_len: 5"),
                         ("action_embedding_dim: 4", "action_embedding_dim: 4 watchtime_to_action_thresholds: 3"),
                         ('label_name: "cand_seq__watch_time"', 'label_name: "cand_seq__watch_tim"'),
                         ("time_duration_period_units: [60, 600]", "time_duration_period_units: [60]"),
                         ("dataset_type: ParquetDataset", "dataset_type: CsvDataset"),
                         ("model_config {", "model_config {\n  variational_dropout { }")):
            self.assertIn(old, text)
            text = text.replace(old, new)
        (self.dir / "bad.config").write_text(text)
        told = self.run_program(ANNEAL, "check", self.dir / "bad.config", expect=64)
        at = "model_config.dlrm_hstu.hstu"
        for fault in (f"{at}: needs a feature group named 'candidate_timestamp', JAGGED_SEQUENCE",
                      f"{at}.positional_encoder: use_time_encoding needs num_time_buckets",
                      f"{at}.attn_truncation_split_layer: must be less than attn_num_layers",
                      "watchtime_to_action_thresholds: 1 values for 0 watchtime_to_action_weights",
                      "task_configs[2].label_name: 'cand_seq__watch_tim' is not in data_config.label_fields (did you mean",
                      "1 time_duration_period_units for 2 time_duration_units_per_period",
                      "data_config.dataset_type: CsvDataset: labels are lists",
                      "model_config.variational_dropout: is not for a model with JAGGED_SEQUENCE groups"):
            self.assertIn(fault, told)
        text = (ZOO / "dlrm_hstu/pipeline.config").read_text()
        start, end = text.index("          content_encoder {"), text.index("        }\n      }\n      output_postprocessor {")
        (self.dir / "match.config").write_text((text[:start] + text[end:]).replace("contextual_preprocessor {", "uih_preprocessor {"))
        told = self.run_program(ANNEAL, "check", self.dir / "match.config", expect=64)
        self.assertIn("input_preprocessor.uih_preprocessor: not supported yet", told)


if __name__ == "__main__":
    unittest.main(verbosity=2)
