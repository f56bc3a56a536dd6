"""Two exported encoders, made once: everything INT8 and sparse, and a mixture of schemes."""

import pytest
from parity_models import Exported, encoded, export

from nxmi_export.encoding import EncodedDataset
from nxmi_export.recipe import Recipe


@pytest.fixture(scope="session")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(Recipe(), tmp_path_factory.mktemp("sparse"))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    recipe = Recipe.from_mapping(
        {
            "default": "int8",
            "embeddings": "int8",
            "schemes": {"ffn_up": "2:4+int4", "ffn_down": "2:4", "attention_output": "dense"},
            "placement": "linear",
        },
        source="test",
    )
    return export(recipe, tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="session")
def data() -> EncodedDataset:
    return encoded()
