"""Loads TVM without PyTorch, which these tests do not need and which takes seconds to import."""

from __future__ import annotations

from lhcc.runtime.library import import_tvm

import_tvm()
