"""What a run must not do silently: train on nothing or on what is no number, write where another run writes, go on from states
of another optimizer, begin anew over what is damaged, lose a checkpoint by what is no fault of it."""
import json
import os
import shutil
import signal
import subprocess
import time
import unittest

import pyarrow
import pyarrow.parquet

from harness import ANNEAL, ROOT, Case, edits, no_room

CONFIG = ROOT / "examples/movielens/pipeline.config"


class Refusals(Case):
    def setUp(self):
        super().setUp()
        self.run_program(str(ANNEAL) + "-movielens-prepare", "--synthetic", "3000", "--out", self.dir / "data")
        self.table = pyarrow.parquet.read_table(self.dir / "data/train.parquet")

    def train(self, model, *more, train="data/train.parquet", evaluation="data/eval.parquet", **config):
        return (ANNEAL, "train", "--pipeline_config_path", CONFIG, "--model_dir", self.dir / model, "--train_input_path", train,
                "--eval_input_path", evaluation, "--edit_config_json", edits(**{
                    "train_config.num_epochs": 2, "data_config.batch_size": 64, **config}), *more)

    def write(self, name, table):
        pyarrow.parquet.write_table(table, self.dir / name)
        return name

    def with_labels(self, labels):
        """bad.parquet: the training rows with other labels."""
        return self.write("bad.parquet", self.table.set_column(self.table.schema.get_field_index("label"), "label", labels))

    def checkpoints(self, model):
        return sorted(path.name for path in (self.dir / model).glob("model.ckpt-*"))

    def test_no_rows(self):
        empty = self.write("empty.parquet", self.table.slice(0, 0))
        text = self.run_program(*self.train("m", train=empty), expect=78)
        self.assertIn("train_input_path empty.parquet has no rows to train on", text)
        text = self.run_program(*self.train("m", data_config__drop_remainder=True, data_config__batch_size=5000), expect=78)
        self.assertIn("drop_remainder leaves out what is not a whole batch", text)
        text = self.run_program(*self.train("m", evaluation=empty))
        self.assertIn("eval_input_path empty.parquet has no rows: nothing is evaluated", text)
        self.assertFalse((self.dir / "m/train_eval_result_v2.txt").exists())
        text = self.run_program(ANNEAL, "eval", "--pipeline_config_path", "m/pipeline.config", "--eval_input_path", empty, expect=78)
        self.assertIn("eval_input_path empty.parquet has no rows", text)

    def test_labels_that_are_no_numbers(self):
        labels = [float(x) for x in self.table["label"].to_pylist()]
        for value, word in ((float("nan"), "NaN"), (float("-inf"), "infinite")):
            labels[70] = value
            path = self.with_labels(pyarrow.array(labels))
            text = self.run_program(*self.train("m", train=path), expect=78)
            self.assertIn(f"bad.parquet row 71, column label: is {word}", text)

    def test_bad_evaluation_data_keep_the_checkpoint(self):
        labels = self.table["label"].to_pylist()
        labels[3] = None
        path = self.with_labels(pyarrow.array(labels, self.table.schema.field("label").type))
        text = self.run_program(*self.train("m", evaluation=path, train_config__save_checkpoints_epochs=0), expect=78)
        self.assertIn("bad.parquet row 4, column label: is null", text)
        last, = self.checkpoints("m")
        # Only one of two ranks meets the bad row.
        done = subprocess.run([str(word) for word in (ANNEAL, "launch", "--nproc-per-node", "2", "--", *self.train(
            "two", evaluation=path, train_config__save_checkpoints_epochs=0)[1:])], cwd=self.dir, capture_output=True, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
        self.assertIn("bad.parquet row 4, column label: is null", done.stderr)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(len(self.checkpoints("two")), 1)
        self.run_program(*self.train("m", "--continue_train", train_config__num_epochs=3))
        self.assertIn(last, self.checkpoints("m"))

    def test_a_variance_of_one_row(self):
        # Batch norm would keep NaN as its running variance, and nobody would see it before an evaluation.
        text = self.run_program(*self.train("m", data_config__batch_size=2399, train_config__num_epochs=1,
                                            model_config__deepfm__deep__use_bn=True), expect=78)
        self.assertIn("expected more than 1 value per channel when training, this batch has one row", text)

    def test_words_where_a_variable_takes_numbers(self):
        for name, value in (("OMP_NUM_THREADS", "abc"), ("OMP_NUM_THREADS", "0"), ("OMP_NUM_THREADS", "2x"),
                            ("OMP_NUM_THREADS", "99999999"), ("USE_DETERMINISTIC_ALGORITHMS", "yes")):
            text = self.run_program(*self.train("m"), env={name: value}, expect=64)
            self.assertIn(f"environment variable {name}='{value}' must be a number from", text)

    def test_a_limit_on_file_sizes(self):
        command = [str(word) for word in self.train("m")]
        done = subprocess.run(command, cwd=self.dir, capture_output=True, text=True, preexec_fn=no_room, timeout=120)
        self.assertEqual(done.returncode, 75)
        self.assertIn("File too large", done.stdout + done.stderr)

    def test_a_rank_without_rows(self):
        names = self.table.column_names
        rows = zip(*(self.table[name].to_pylist() for name in names))
        header = ",".join(names) + "\n"
        (self.dir / "full.csv").write_text(header + "".join(",".join(map(str, row)) + "\n" for row in rows))
        (self.dir / "none.csv").write_text(header)
        for config in ({}, {"train_config.save_checkpoints_epochs": 0, "train_config.log_step_count_steps": 1000}):
            text = self.launch(1, 2, *self.train("m", train="full.csv,none.csv", evaluation="full.csv,none.csv", **{
                "data_config.dataset_type": "CsvDataset", "data_config.with_header": True, **config})[1:])
            self.assertIn("Train and Evaluate Finished", text)
            self.assertNotEqual(self.checkpoints("m"), [])
            shutil.rmtree(self.dir / "m")

    def test_two_runs_in_one_folder(self):
        first = subprocess.Popen([str(word) for word in self.train("m", train_config__num_epochs=1000)], cwd=self.dir,
                                 stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            while not self.checkpoints("m"):
                self.assertIsNone(first.poll())
                time.sleep(0.02)
            text = self.run_program(*self.train("m", "--continue_train"), expect=75, env={"ANNEAL_LOCK_WAIT_SECONDS": "1"})
            self.assertIn("waiting for its end", text)
            self.assertIn(f"another process trains in model_dir {self.dir}/m", text)
        finally:
            first.send_signal(signal.SIGTERM)
        self.assertEqual(first.wait(60), 143)
        self.run_program(*self.train("m", "--continue_train", train_config__num_epochs=1))

    def test_states_of_another_optimizer(self):
        self.run_program(*self.train("m"))
        other = {"train_config.num_epochs": 3, "train_config.sparse_optimizer.adagrad_optimizer.lr": 0.1}
        text = self.run_program(*self.train("m", "--continue_train", **other), expect=64)
        self.assertRegex(text, "train_config.sparse_optimizer is adagrad_optimizer, .* was trained with adam_optimizer")
        text = self.run_program(*self.train("m", "--continue_train", "--ignore_restore_optimizer", **other))
        self.assertNotIn("not finite", text)

    def test_nothing_begins_anew_over_what_is_damaged(self):
        self.run_program(*self.train("m", train_config__save_checkpoints_epochs=0))
        path = next(self.dir.glob("m/model.ckpt-*/model-*.safetensors"))
        whole = path.read_bytes()
        path.write_bytes(whole[:-100])
        for more in ((), ("--continue_train",)):
            text = self.run_program(*self.train("m", *more), expect=78)
            self.assertIn("there is no checkpoint before it", text)
            self.assertIn(f"no checkpoint in model_dir {self.dir}/m can be read", text)
        self.assertEqual(path.read_bytes(), whole[:-100])
        (self.dir / "file").write_text("")
        self.assertIn(f"model_dir {self.dir}/file is a file", self.run_program(*self.train("file"), expect=64))

    def test_where_a_resumed_run_reads_on(self):
        config = {"train_config.num_epochs": 0, "train_config.num_steps": 10}
        self.run_program(*self.train("m", **config))
        more = {**config, "train_config.num_steps": 20}
        shutil.copytree(self.dir / "m", self.dir / "other")
        text = self.run_program(*self.train("other", "--continue_train", train="./data/train.parquet", **more))
        self.assertIn("(its reading position is of data/train.parquet): train_input_path ./data/train.parquet is read from its beginning", text)
        shutil.copytree(self.dir / "m", self.dir / "batch")
        text = self.run_program(*self.train("batch", "--continue_train", **{**more, "data_config.batch_size": 32}))
        self.assertIn("the pass goes on behind the rows that were read, in another order, without the batches that shuffling held back", text)
        self.assertNotIn("WARNING", self.run_program(*self.train("m", "--continue_train", **more)))

    def test_words_that_belong_to_no_flag(self):
        self.run_program(*self.train("m"))
        predict = (ANNEAL, "predict", "--pipeline_config_path", "m/pipeline.config", "--predict_output_path", "out", "--predict_input_path")
        text = self.run_program(*predict, "data/eval.parquet", "data/test.parquet", expect=64)  # a pattern without quotes
        self.assertIn("argument 'data/test.parquet' belongs to no flag", text)
        text = self.run_program(*self.train("m", "--continue_trian"), expect=64)
        self.assertIn("argument '--continue_trian' is not known; did you mean --continue_train?", text)
        text = self.run_program(*self.train("n", "--another_flag", "7"))
        self.assertIn("argument '--another_flag' is not known and ignored", text)
        # What is predicted never replaces what it is predicted from.
        (self.dir / "in").mkdir()
        shutil.copy(self.dir / "data/test.parquet", self.dir / "in/part-0.parquet")
        text = self.run_program(*predict[:4], "--predict_output_path", "in", "--predict_input_path", "in/*.parquet", expect=64)
        self.assertIn("in/part-0.parquet is an input", text)
        (self.dir / "in/more.parquet").symlink_to("nothing")
        self.assertIn("in/more.parquet is a link to nothing", self.run_program(*predict, "in/*.parquet", expect=64))

    def test_a_full_disk_while_a_model_is_written(self):
        self.run_program(*self.train("m"))
        for command in (("export", "--pipeline_config_path", "m/pipeline.config", "--export_dir", "x"),
                        ("checkpoint", "convert", "m", "d", "--to", "dcp")):
            done = subprocess.run([str(ANNEAL), *command], cwd=self.dir, capture_output=True, text=True, preexec_fn=no_room,
                                  env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120)
            self.assertEqual(done.returncode, 75, done.stderr)
            self.assertIn("File too large", done.stderr)
            target = self.dir / ("x" if "export" in command else "d")
            self.assertEqual([path for path in target.glob("*") if not path.name.endswith(".unfinished")], [])
            self.run_program(ANNEAL, *command)  # room again

    def test_where_an_evaluation_writes(self):
        self.run_program(*self.train("m"))
        command = (ANNEAL, "eval", "--pipeline_config_path", "m/pipeline.config", "--eval_input_path", "data/eval.parquet",
                   "--eval_result_filename")
        self.run_program(*command, self.dir / "elsewhere.txt")
        self.assertIn("auc", json.loads((self.dir / "elsewhere.txt").read_text()))
        self.assertIn("cannot write the result to", self.run_program(*command, "none/x.txt", expect=75))
        self.assertIn("--eval_result_filename is empty", self.run_program(*command, "", expect=64))


if __name__ == "__main__":
    unittest.main(verbosity=2)
