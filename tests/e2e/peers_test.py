"""Ranks that die, stop or hang: the others end with exit code 76 and name the one to blame."""
import json
import os
import re
import shutil
import signal
import subprocess
import time
import unittest

import pyarrow.csv
import pyarrow.parquet

from harness import ANNEAL, GOLDEN, Case, edits, free_port

TRAIN = GOLDEN / "train"


@unittest.skipUnless(TRAIN.exists(), "the golden files are not on this machine")
class Peers(Case):
    def start(self, ranks, timeout, *more, train=None, **config):
        """One process per rank without the launcher, whose own stopping would hide what the ranks do by themselves."""
        port = free_port()
        command = [ANNEAL, "train", "--pipeline_config_path", TRAIN / "deepfm_fused.config", "--model_dir", self.dir / "m",
                   "--train_input_path", train or TRAIN / "data/deepfm_train.parquet", "--edit_config_json",
                   edits(**{"eval_input_path": "", "data_config__batch_size": 64, "train_config__num_steps": 1000000,
                            "train_config__log_step_count_steps": 1, **config}), *more]
        self.logs = [self.dir / f"rank{rank}.log" for rank in range(ranks)]
        started = []
        for rank in range(ranks):
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank),
                           "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1",
                           "MASTER_PORT": str(port), "PROCESS_GROUP_TIMEOUT_SECONDS": str(timeout)}
            run = subprocess.Popen([str(c) for c in command], stderr=open(self.logs[rank], "w"), env=environment)
            self.addCleanup(run.wait)
            self.addCleanup(run.kill)
            started.append(run)
        return started

    def trains(self, runs):
        """Waits until every rank has done a whole step: the line of step 2 comes after an exchange with all of them."""
        end = time.monotonic() + 600
        while not any(int(step) >= 2 for step in re.findall(r"Training Epoch \d+: (\d+)it", self.logs[0].read_text())):
            self.assertTrue(time.monotonic() < end and all(run.poll() is None for run in runs), self.text(0))
            time.sleep(0.05)

    def text(self, rank):
        return self.logs[rank].read_text()[-3000:]

    def check_blame(self, runs, blamed, what):
        for rank, run in enumerate(runs):
            if rank == blamed:
                continue
            self.assertEqual(run.wait(timeout=600), 76, self.text(rank))
            self.assertRegex(self.text(rank), rf"rank {rank} of {len(runs)}: [a-z-]+ \(collective \d+\) of step \d+ failed: "
                                              rf"rank {blamed} {what}")
            record = json.loads((self.dir / f"m/flight_recorder/rank-{rank}.json").read_text())
            self.assertEqual((record["rank"], record["world_size"]), (rank, len(runs)))
            self.assertRegex(record["verdict"], rf"rank {blamed} {what}")
            collectives = record["collectives"]
            first, last = collectives[0], collectives[-1]
            self.assertEqual([entry["sequence"] for entry in collectives], list(range(first["sequence"], last["sequence"] + 1)))
            self.assertGreater(last["step"], 0)
            states = [entry["state"] for entry in collectives]
            self.assertEqual(set(states[:-8]), {"completed"})
            self.assertIn("failed", states[-8:])
            self.assertLessEqual({"all-to-all", "all-reduce"}, {entry["operation"] for entry in collectives})

    def kill(self, blamed):
        runs = self.start(3, 600)
        self.trains(runs)
        runs[blamed].kill()
        self.check_blame(runs, blamed, "(gives no sign of life|does not answer)")

    def test_a_rank_killed_in_a_save_leaves_the_others_an_orderly_end(self):
        """At moments between the beginning of a save and the collectives at its end."""
        for moment in range(6):
            runs = self.start(2, 60, train_config__save_checkpoints_steps=1, train_config__keep_checkpoint_max=2)
            self.trains(runs)
            time.sleep(0.013 * moment)
            runs[1].kill()
            self.assertEqual(runs[0].wait(timeout=600), 76, self.text(0))
            self.assertNotIn("terminate called", self.text(0))
            runs[1].wait()
            shutil.rmtree(self.dir / "m")

    def test_a_killed_rank_is_named_by_all_others(self):
        self.kill(1)

    def test_the_rank_with_the_store_is_killed(self):
        self.kill(0)

    def stop(self, blamed):
        runs = self.start(3, 10)  # long enough for a start on a busy machine
        self.trains(runs)
        runs[blamed].send_signal(signal.SIGSTOP)
        self.check_blame(runs, blamed, "(gives no sign of life|does not answer)")

    def test_a_stopped_rank_is_named_after_the_timeout(self):
        self.stop(2)

    def test_the_rank_with_the_store_is_stopped(self):
        self.stop(0)

    def test_a_rank_with_an_error_of_its_own(self):
        # Two files, one per rank; the second rank's is broken, but only far in, so that it ends in training.
        table = pyarrow.parquet.read_table(TRAIN / "data/deepfm_train.parquet").slice(0, 4096)
        (self.dir / "data").mkdir()
        for part in range(2):
            pyarrow.parquet.write_table(table, self.dir / f"data/{part}.parquet", row_group_size=512)
        broken = self.dir / "data/1.parquet"
        raw = bytearray(broken.read_bytes())
        group = pyarrow.parquet.ParquetFile(broken).metadata.row_group(6)
        for column in range(group.num_columns):
            at = group.column(column).data_page_offset
            raw[at:at + 8] = b"\xff" * 8
        broken.write_bytes(raw)
        runs = self.start(2, 600, train=self.dir / "data/*.parquet")
        codes = [run.wait(timeout=600) for run in runs]
        self.assertEqual(sorted(codes), [76, 78], self.text(0) + self.text(1))
        blamed = codes.index(78)
        self.assertIn(f"failed: rank {blamed} ended with an error of its own", self.text(1 - blamed))

    def test_uneven_data_ends_cleanly(self):
        # A file of each rank: they run out one after the other.
        table = pyarrow.parquet.read_table(TRAIN / "data/deepfm_train.parquet")
        (self.dir / "data").mkdir()
        for part, (at, rows) in enumerate(((0, 700), (700, 250), (950, 50))):
            pyarrow.csv.write_csv(table.slice(at, rows), self.dir / f"data/{part}.csv")
        runs = self.start(3, 600, train=self.dir / "data/*.csv", train_config__num_steps=0, train_config__num_epochs=2,
                          data_config__dataset_type="CsvDataset", data_config__with_header=True)
        for rank, run in enumerate(runs):
            self.assertEqual(run.wait(timeout=600), 0, self.text(rank))
        checkpoint, = (self.dir / "m").glob("model.ckpt-*")
        self.assertEqual(checkpoint.name, "model.ckpt-21")  # twice the 11 batches of the longest file
        self.assertEqual(json.loads((checkpoint / "dataloader_state.json").read_text())["__epochs_completed__"], 2)
        self.assertFalse((self.dir / "m/flight_recorder").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
