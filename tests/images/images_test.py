"""The images that every installation needs: what is in them, and that they run."""
import image


class Images(image.ImageTest):
    images = ("operator", "worker")

    def test_operator(self):
        config = self.unpack("operator")
        self.assertEqual((config["User"], config["Entrypoint"], config["Cmd"]), ("65532:65532", ["/usr/local/bin/anneal-operator"], ["serve"]))
        self.absent("torch", "arrow", "python", "bash", "busybox")
        self.assertLess(self.megabytes, 40)
        self.assertIn("anneal-operator 0.1.0", self.run_in(*config["Entrypoint"], "--version"))
        self.assertIn("no cluster: give --kubeconfig", self.run_in(*config["Entrypoint"], "serve", fails=True))

    def test_worker(self):
        config = self.unpack("worker")
        self.assertEqual((config["User"], config["Entrypoint"]), ("65532:65532", ["/usr/local/bin/anneal"]))
        self.absent("python")
        self.assertLess(self.megabytes, 800)
        self.assertIn("Read-only file system", self.run_in("/bin/sh", "-c", "touch /usr/local/bin/new", fails=True))
        self.run_in("/bin/sh", "-ec", """id -u | grep -qx 65532; cd /tmp; export PATH
            anneal-movielens-prepare --synthetic 3000 --out data
            anneal check pipeline.config
            anneal launch --nproc-per-node 2 -- train --pipeline_config_path pipeline.config --model_dir model \\
              --train_input_path data/train.parquet --eval_input_path data/eval.parquet --edit_config_json '{"train_config.num_epochs": 1}'
            anneal export --pipeline_config_path pipeline.config --export_dir out --verify_input_path data/test.parquet \\
              --edit_config_json '{"model_dir": "model"}' --publish_uri file:///tmp/published
            test -e published/latest""")


if __name__ == "__main__":
    image.main()
