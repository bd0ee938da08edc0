"""What is measured: the models of TorchEasyRec's examples deepfm_criteo and mmoe_taobao, as data and as pipeline.config.

Tables of more than CAP rows are cut to it (Criteo's have 40 million), so that both sides fit a developer's machine.
"""
import dataclasses
import json
import zlib

CAP = 1_000_000
BATCH = 8192
CRITEO = [40000000, 39060, 17295, 7424, 20265, 3, 7122, 1543, 63, 40000000, 3067956, 405282, 10, 2209, 11938, 155, 4, 976,
          14, 40000000, 40000000, 40000000, 590152, 12973, 108, 36]
TAOBAO = {"user_id": 1141730, "cms_segid": 98, "cms_group_id": 14, "final_gender_code": 3, "age_level": 8,
          "pvalue_level": 5, "shopping_level": 5, "occupation": 3, "new_user_class_level": 6, "pid": 20,
          "adgroup_id": 846812, "cate_id": 12961, "campaign_id": 423438, "customer": 255877, "brand": 461498, "price": 99}


@dataclasses.dataclass(frozen=True)
class Workload:
    """A model and the shape of its data. `ids`: column -> rows of its table. `dim`: width of the tables."""
    name: str
    model: str  # deepfm | mmoe
    ids: dict
    floats: int = 0
    dim: int = 16
    batch: int = BATCH

    @property
    def labels(self):
        return ["label"] if self.model == "deepfm" else ["clk", "buy"]

    @property
    def data_key(self):
        """Workloads of one key read the same files."""
        return f"{self.model}-{zlib.crc32(repr(self.ids).encode()):08x}"


def deepfm(ids=None, batch=BATCH, name="deepfm"):
    ids = ids or {f"cat_{i}": min(rows, CAP) for i, rows in enumerate(CRITEO)}
    return Workload(name, "deepfm", ids, floats=13, batch=batch)


def mmoe():
    return Workload("mmoe", "mmoe", dict(TAOBAO))


def _mlp(field, units):
    return f"{field} {{ {' '.join(f'hidden_units: {u}' for u in units)} }}"


def pipeline_config(workload, model_dir, train, evaluation, num_workers=1, **train_config):
    """The text of a pipeline.config. `train_config`: further fields of it, JSON scalars."""
    floats = [f"int_{i}" for i in range(workload.floats)]
    features = [f'feature_configs {{ raw_feature {{ feature_name: "{name}" fg_encoded_default_value: "0" }} }}' for name in floats]
    features += [f'feature_configs {{ id_feature {{ feature_name: "{name}" num_buckets: {rows} embedding_dim: {workload.dim} '
                 f'fg_encoded_default_value: "" }} }}' for name, rows in workload.ids.items()]

    def group(name, members, kind):
        names = " ".join(f'feature_names: "{member}"' for member in members)
        return f'feature_groups {{ group_name: "{name}" {names} group_type: {kind} }}'

    ids = list(workload.ids)
    if workload.model == "deepfm":
        body = "\n".join([group("wide", ids, "WIDE"), group("fm", ids, "DEEP"), group("deep", floats + ids, "DEEP"),
                          f"deepfm {{ {_mlp('deep', (512, 256, 128))} {_mlp('final', (64,))} }}",
                          "metrics { auc {} }", "losses { binary_cross_entropy {} }"])
    else:
        towers = [f'task_towers {{ tower_name: "{tower}" label_name: "{label}" {_mlp("mlp", (256, 128, 64))} '
                  f"metrics {{ auc {{}} }} losses {{ binary_cross_entropy {{}} }} }}" for tower, label in (("ctr", "clk"), ("cvr", "buy"))]
        body = "\n".join([group("all", ids, "DEEP"),
                          f"mmoe {{ {_mlp('expert_mlp', (512, 256, 128))} num_expert: 3 {' '.join(towers)} }}"])
    extra = "\n".join(f"  {key}: {json.dumps(value)}" for key, value in train_config.items())
    labels = " ".join(f'label_fields: "{label}"' for label in workload.labels)
    newline = "\n"
    return f"""train_input_path: "{train}"
eval_input_path: "{evaluation}"
model_dir: "{model_dir}"
train_config {{
  sparse_optimizer {{ adagrad_optimizer {{ lr: 0.001 }} constant_learning_rate {{}} }}
  dense_optimizer {{ adam_optimizer {{ lr: 0.001 }} constant_learning_rate {{}} }}
  use_tensorboard: false
  global_embedding_constraints {{ sharding_types: "table_wise" compute_kernels: "fused" }}
{extra}
}}
eval_config {{}}
data_config {{
  batch_size: {workload.batch}
  dataset_type: ParquetDataset
  fg_mode: FG_NONE
  num_workers: {num_workers}
  {labels}
}}
{newline.join(features)}
model_config {{
{body}
}}
"""
