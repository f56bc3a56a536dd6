"""What tests of torch.compile need, and the package itself does not."""

import os
import shutil

import pytest

__all__ = ["needs_compiler"]

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None,
    reason="torch.compile needs a C++ compiler, and there is none",
)
