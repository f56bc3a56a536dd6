"""Stand-ins for what accelerate's trackers call, with the signatures and checks of the originals.

An argument, a type or a name that the original refuses is refused here too.
"""

import re
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

__all__ = ["Call", "mlflow_package", "package", "summary_writer"]

Call = tuple[Any, ...]
# of mlflow.utils.validation; it takes a colon only in later versions
MLFLOW_NAMES = re.compile(r"^[/\w.\- ]*$")


def package(name: str, **content: Any) -> ModuleType:
    """A module for `sys.modules`, which `find_spec` finds."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(content)
    return module


def summary_writer(calls: list[Call]) -> type:
    """`torch.utils.tensorboard.SummaryWriter`, as far as accelerate uses it."""

    class SummaryWriter:
        def __init__(
            self,
            log_dir: str | None = None,
            comment: str = "",
            purge_step: int | None = None,
            max_queue: int = 10,
            flush_secs: int = 120,
            filename_suffix: str = "",
        ) -> None:
            assert isinstance(log_dir, str)
            calls.append(("begin", log_dir))

        def add_hparams(
            self,
            hparam_dict: dict[str, Any],
            metric_dict: dict[str, Any],
            hparam_domain_discrete: dict[str, Any] | None = None,
            run_name: str | None = None,
            global_step: int | None = None,
        ) -> None:
            if type(hparam_dict) is not dict or type(metric_dict) is not dict:
                raise TypeError("hparam_dict and metric_dict should be dictionary.")
            for value in hparam_dict.values():
                if not isinstance(value, bool | int | float | str):
                    raise ValueError(
                        "value should be one of int, float, str, bool, or torch.Tensor"
                    )
            calls.append(("settings", hparam_dict))

        def add_scalar(
            self,
            tag: str,
            scalar_value: float,
            global_step: int | None = None,
            walltime: float | None = None,
            new_style: bool = False,
            double_precision: bool = False,
        ) -> None:
            assert type(global_step) is int
            calls.append((tag, scalar_value, global_step))

        def flush(self) -> None: ...

        def close(self) -> None:
            calls.append(("end",))

    return SummaryWriter


def mlflow_package(calls: list[Call]) -> dict[str, ModuleType]:
    """`mlflow` by the names of its modules, as far as accelerate uses it; it has no experiment."""

    def search_experiments(
        view_type: int = 1,
        max_results: int | None = None,
        filter_string: str | None = None,
        order_by: list[str] | None = None,
    ) -> list[Any]:
        assert filter_string is not None
        assert re.fullmatch(r"name = '[^']+'", filter_string)
        return []

    def create_experiment(
        name: str, artifact_location: str | None = None, tags: dict[str, Any] | None = None
    ) -> str:
        assert isinstance(artifact_location, str)
        calls.append(("begin", name, artifact_location))
        return "7"

    def start_run(
        run_id: str | None = None,
        experiment_id: str | None = None,
        run_name: str | None = None,
        nested: bool = False,
        tags: dict[str, Any] | None = None,
        description: str | None = None,
        log_system_metrics: bool | None = None,
    ) -> Any:
        if active:
            raise RuntimeError("Run is already active. To start a new run, first end the current")
        assert experiment_id == "7"
        active.append(SimpleNamespace())
        return active[0]

    def log_params(params: dict[str, Any], synchronous: bool | None = None) -> None:
        assert len(params) <= validation.MAX_PARAMS_TAGS_PER_BATCH
        check_names(params)
        calls.append(("settings", params))

    def log_metrics(
        metrics: dict[str, float], step: int | None = None, synchronous: bool | None = None
    ) -> None:
        check_names(metrics)
        for value in metrics.values():
            assert isinstance(value, int | float)
            assert not isinstance(value, bool)
        assert type(step) is int
        calls.extend((name, value, step) for name, value in metrics.items())

    def end_run(status: str = "FINISHED") -> None:
        active.pop()
        calls.append(("end",))

    def check_names(names: dict[str, Any]) -> None:
        assert active
        for name in names:
            if not MLFLOW_NAMES.match(name):
                raise ValueError(f"Invalid name: {name!r}. Names may only contain alphanumerics")

    active: list[Any] = []
    validation = package(
        "mlflow.utils.validation", MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100
    )
    utils = package("mlflow.utils", validation=validation)
    mlflow = package(
        "mlflow",
        utils=utils,
        search_experiments=search_experiments,
        create_experiment=create_experiment,
        start_run=start_run,
        log_params=log_params,
        log_metrics=log_metrics,
        end_run=end_run,
    )
    return {module.__name__: module for module in (mlflow, utils, validation)}
