"""Commands that measure kernels, here or for others, and keep what was found."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from lhcc.cli.options import chosen_options, input_shapes, show, tell


def tune(options: argparse.Namespace) -> None:
    from lhcc.runtime.files import writable
    from lhcc.runtime.library import import_tvm

    writable(options.database)
    import_tvm()
    from lhcc.tuning.tune import tune_model

    chosen = chosen_options(options)
    del chosen["tuning"]
    tuned = tune_model(
        options.model,
        options.target or "cpu",
        input_shapes=input_shapes(options),
        budget_s=options.budget,
        database=options.database,
        options=chosen,
        rpc=options.rpc,
        key=options.key,
        also_generic=options.also_generic,
    )
    show(options, tuned)


def serve(options: argparse.Namespace) -> None:
    from lhcc.tuning.serve import serve

    def ready(place: Mapping[str, Any]) -> None:
        if options.json:
            print(json.dumps(place), flush=True)

    serve(options.host, options.port, options.tracker, options.key, options.with_tracker, ready)


def db(options: argparse.Namespace) -> None:
    from lhcc.runtime.files import writable
    from lhcc.tuning.database import merge

    writable(options.output)
    added = merge(options.databases, options.output)
    tell(options, {"output": options.output, "added": added}, f"{options.output}: {added} records added")
