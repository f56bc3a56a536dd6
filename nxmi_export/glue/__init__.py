"""GLUE: tasks, their dev sets from files or the hub, and their metrics.

    task = task_named("sst2")
    dataset = load_dataset(task, "validation", Path("glue"))
    scores = score(task, predict(task, logits), dataset.labels)

Needs numpy and pyarrow only; neither torch nor transformers is loaded.
"""

from nxmi_export.glue.dataset import Dataset
from nxmi_export.glue.metrics import predict, primary, score
from nxmi_export.glue.sources import load_dataset
from nxmi_export.glue.tasks import TASKS, Task, task_named

__all__ = [
    "TASKS",
    "Dataset",
    "Task",
    "load_dataset",
    "predict",
    "primary",
    "score",
    "task_named",
]
