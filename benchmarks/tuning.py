"""What does tuning gain, and does a short search find what a long one finds?

`python -m benchmarks.tuning [--rows vgg16-cifar:0.1] [--budget 60] [--long 1200] [--json FILE] [--check]`
--long 0 leaves out the long search.  Both searches start from an empty database.  With --reference FOLDER the long one
is that of `benchmarks.tuning_reference`, which worked in FOLDER before, on a quiet machine in pieces.  With --keep
FOLDER searches are kept there and not repeated, so that this, too, can be done in pieces.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import runtime_peer
from benchmarks.models import network_file
from benchmarks.results import ROOT, speed_up
from benchmarks.session import Session, parser
from benchmarks.tuning_reference import search_seconds

ROWS = "vgg16-cifar:0.1,resnet34:0.25"
SMALL = ROOT / "examples" / "digits" / "vgg_lhc_free.onnx"  # layers of 64 pixels and less
NEAR, RATE = 1.05, 10.0  # time after a short search over that after a long one; candidates a second
NO_WORSE = 0.99  # times the speed of the untuned network: equal networks differ by so much


def search(model: Path, threads: int, budget_s: float, database: Path) -> dict[str, Any]:
    """Tunes, and says how; the database is what remains.  What is there from another run is not done again."""
    import lhcc

    kept = database.with_suffix(".report")
    if kept.exists():
        known: dict[str, Any] = json.loads(kept.read_text())
        return known
    report = lhcc.tune(str(model), budget_s=budget_s, database=str(database), threads=threads)
    print(f"\n{report}", flush=True)
    rate = report.measured / report.seconds
    whole = report.json()["network"]
    found = {"budget_s": budget_s, "seconds": report.seconds, "measured": report.measured, "rate": rate,
             "ended": report.ended, "by_layers": report.speed_up, "network": whole,
             "failures": dict(report.failures)}  # fmt: skip
    kept.write_text(json.dumps(found))
    return found


def network(
    session: Session, folder: Path, name: str, density: float, threads: int, budgets: dict[str, float],
    reference: Path | None,
) -> None:  # fmt: skip
    """Searches with every budget, then compares what each of them found with the untuned network."""
    model = network_file(name, density)
    peers, found = [runtime_peer("lhcc", model, threads, "untuned")], {}
    for label, budget_s in budgets.items():
        database = folder / f"{name}-{density:g}-{threads}-{label}.json"
        found[label] = search(model, threads, budget_s, database)
        peers.append(runtime_peer("lhcc", model, threads, label, tuning=str(database)))
    if reference is not None:
        database = reference / f"{name}-{density:g}.json"
        log = database.with_suffix(".log")
        last = json.loads(log.read_text().splitlines()[-1])
        found["long"] = {
            "seconds": search_seconds(log),
            "tried": last["tried"],
            "complete": last["left"] == 0,
            "by_layers": last["by_layers"],
        }
        peers.append(runtime_peer("lhcc", model, threads, "long", tuning=str(database)))
    case = session.measure(
        f"{name}, density {density:g}", peers, threads, network=name, density=density, searches=found
    )
    untuned, tuned = case.result("untuned"), case.result("tuned")
    session.ask(f"{case.title}: tuned over untuned", speed_up(untuned, tuned), NO_WORSE)
    if "long" in found:
        session.ask(f"{case.title}: short search against long", speed_up(tuned, case.result("long")), NEAR, "x", False)


def main() -> int:
    options = parser(__doc__)
    options.set_defaults(threads="1")
    options.add_argument("--rows", default=ROWS, help=f"NETWORK:DENSITY, separated by commas (default {ROWS})")
    options.add_argument("--budget", type=float, default=60.0, metavar="SECONDS", help="of the search (default 60)")
    options.add_argument("--long", type=float, default=1200.0, metavar="SECONDS", help="to compare with (default 1200)")
    options.add_argument("--reference", type=Path, metavar="FOLDER", help="of databases that take the long one's place")
    options.add_argument("--keep", type=Path, metavar="FOLDER", help="of searches, which are not repeated")
    args = options.parse_args()
    session = Session("tuning", args)
    budgets = {"tuned": args.budget, **({"long": args.long} if args.long > 0 and not args.reference else {})}
    with tempfile.TemporaryDirectory(prefix="lhcc-tuning-") as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        rate = search(SMALL, 1, min(20.0, args.budget), folder / "small.json")["rate"]
        session.ask("candidates measured a second, layers of 64 pixels and less", rate, RATE, "/s")
        for row in args.rows.split(","):
            name, _, density = row.partition(":")
            for threads in session.thread_counts:
                network(session, folder, name, float(density or 1), threads, budgets, args.reference)
    return session.finish()


if __name__ == "__main__":
    raise SystemExit(main())
