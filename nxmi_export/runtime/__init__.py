"""An artefact in, its predictions out: what an application deploys with.

    import nxmi_export

    with nxmi_export.load("model.artefact") as model:
        for prediction in model.predict(["a warm, witty film", "dull"]):
            print(prediction.label, prediction.score)

Needs numpy, onnxruntime and tokenizers, and loads nothing else but Python's own library, and
OpenVINO where that is asked for.
"""

from nxmi_export.runtime.load import load
from nxmi_export.runtime.prediction import Prediction
from nxmi_export.runtime.task_model import TaskModel

__all__ = ["Prediction", "TaskModel", "load"]
