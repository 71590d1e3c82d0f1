"""The commands of `lhcc` and their arguments."""

from __future__ import annotations

import argparse

from lhcc import __version__
from lhcc.cli.arguments import Arguments, amount, number, port, positive

EXAMPLE = """\
lhcc COMMAND --help explains a command.  To begin with:
  lhcc compile model.onnx -o model.lhcc
  lhcc profile model.lhcc"""


def parser() -> Arguments:
    root = Arguments(
        prog="lhcc",
        description="Compiles structurally compressed CNNs, and shows what it gained.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"lhcc {__version__}")
    commands = root.add_subparsers(metavar="COMMAND", dest="command", required=True, title="commands")

    def command(name: str, text: str) -> Arguments:
        added = root.options_of[name] = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + "."
        )
        added.add_argument("--json", action="store_true", help="print JSON instead of text")
        return added

    p = command("inspect", "the structure found in every layer's weights; of an artifact, the memory that it needs")
    p.add_argument("model", metavar="MODEL", help="an ONNX file, a .pt2 file of PyTorch, or an artifact")
    p.add_argument("--target", metavar="TARGET", help="also the memory that it needs there, such as raspberry-pi-4")
    p.add_argument("--precision", default="fp32", metavar="fp32|int8", help="with --target (default fp32)")
    _input_shape(p)

    p = command("compile", "compile a model into one file, or into C")
    p.add_argument("model", metavar="MODEL", help="an ONNX file, or a .pt2 file of PyTorch")
    p.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the artifact to write, or the folder of a design"
    )
    p.add_argument("--emit", metavar="FORM", help="c: a folder of C; so, a: a native library and its header")
    p.add_argument("--name", metavar="NAME", help="what the C symbols begin with (default from the output)")
    p.add_argument("--weights", metavar="FORM", help="in C: array, or binary for a file of their own (default array)")
    _compile_options(p)

    p = command("run", "run a model or an artifact on arrays")
    p.add_argument("model", metavar="MODEL", help="an artifact, or a model, which is compiled first")
    _inputs(p)
    _emulate(p)
    p.add_argument("--output", metavar="FILE", help=".npz, or .npy when there is one output")
    _compile_options(p)

    p = command("profile", "time every layer of a model or an artifact")
    p.add_argument("model", metavar="MODEL", help="an artifact, or a model, which is compiled first")
    _inputs(p)
    _emulate(p)
    p.add_argument("--repeats", type=positive, metavar="N", help="how often to run (as often as fits into a second)")
    p.add_argument("--against", metavar="OTHER", help="another artifact or model, or onnxruntime, to compare with")
    _rpc(p)
    p.add_argument("--synthesis", action=argparse.BooleanOptionalAction, default=None,
                   help="of a circuit: let Yosys count LUTs and memories (where it is installed)")  # fmt: skip
    p.add_argument("--csv", metavar="FILE", help="also write the table as CSV")
    p.add_argument("--html", metavar="FILE", help="also write a report for a browser, in one file")
    p.add_argument("--trace", metavar="FILE", help="also write a trace for Perfetto or chrome://tracing")
    _compile_options(p)

    p = command("why", "why layers were not optimised further")
    p.add_argument("model", metavar="MODEL", help="a model, or an artifact, which remembers the reasons")
    p.add_argument("--layer", metavar="NAME", help="only the layers whose name contains this")
    _compile_options(p)

    p = command("tune", "find the fastest kernels by measuring, and remember them")
    p.add_argument("model", metavar="MODEL", help="an ONNX file, or a .pt2 file of PyTorch")
    p.add_argument("--budget", type=amount, default=60.0, metavar="SECONDS", help="how long to search (default 60)")
    p.add_argument("--database", default="tuning.json", metavar="FILE", help="where to add what is found (tuning.json)")
    p.add_argument("--also-generic", action="store_true", help="operators of TVM too, with its MetaSchedule")
    _rpc(p)
    _compile_options(p, tuning=False)

    p = command("serve", "measure here for lhcc tune and lhcc profile on another machine")
    p.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen at (default 127.0.0.1: this machine only)",
    )
    p.add_argument(
        "--port",
        type=port,
        default=9091,
        metavar="N",
        help="port to listen at (default 9091, or the next free one)",
    )
    p.add_argument("--tracker", metavar="HOST:PORT", help="the tracker to offer this machine to")
    p.add_argument("--with-tracker", action="store_true", help="start a tracker here, too")
    p.add_argument("--key", default="", metavar="NAME", help="under which name to offer it, such as rpi4")

    p = command("db", "put the records of several tuning databases into one")
    p.add_argument("action", choices=["merge"], help="merge is all there is")
    p.add_argument("databases", nargs="+", metavar="FILE", help="the databases to read")
    p.add_argument("-o", "--output", required=True, metavar="FILE", help="the database to add them to")

    p = command("approximate", "turn weights into dyadic numbers, which need no multiplication")
    p.add_argument("model", metavar="MODEL", help="an ONNX file, or a .pt2 file of PyTorch")
    p.add_argument("-o", "--output", required=True, metavar="FILE", help="the ONNX file to write")
    p.add_argument("--set", metavar="SET", help="the numbers to choose from: ternary, two, half, digits:2:4, ...")
    p.add_argument(
        "--scale",
        default="shift",
        metavar="shift|folded",
        help="by powers of two; or free, folded onward (default shift)",
    )
    p.add_argument("--per", metavar="kernel|filter|layer", help="what has a scale of its own")
    p.add_argument("--max-error", type=amount, metavar="E", help="largest relative error of all weights")
    p.add_argument("--max-adds", type=int, metavar="N", help="largest number of additions")
    p.add_argument(
        "--max-drop", type=number, metavar="PERCENT", help="largest loss of accuracy, on --calibrate with labels"
    )
    p.add_argument("--calibrate", metavar="FILE", help=".npz file with inputs x and, for --max-drop, labels y")
    p.add_argument("--weight-bits", type=positive, default=8, metavar="N", help="widest weight (default 8)")
    p.add_argument("--bias-bits", type=positive, default=16, metavar="N", help="width of a bias (default 16)")
    p.add_argument(
        "--activation-error", type=amount, default=1 / 64, metavar="E",
        help="largest error of the lines that replace tanh, sigmoid, gelu, ... (default 1/64)",
    )  # fmt: skip
    _input_shape(p)
    p.add_argument("--plot", metavar="FILE", help="a chart of additions against error, .svg or .png")

    p = command("import-lhc", "read weights of the LHC authors' training code, write ONNX")
    p.add_argument("weights", metavar="WEIGHTS", help="the .h5 file")
    p.add_argument("-o", "--output", required=True, metavar="FILE", help="the ONNX file to write")
    p.add_argument(
        "--arch",
        default="vgg16-cifar",
        metavar="NAME",
        help="the network that the weights are of (default vgg16-cifar)",
    )
    p.add_argument("--group-in", type=positive, default=32, metavar="N", help="input channels per shape (default 32)")
    p.add_argument("--group-out", type=positive, default=16, metavar="N", help="output channels per shape (default 16)")
    p.add_argument("--batch", type=positive, default=1, metavar="N", help="images at once (default 1)")

    command("targets", "what can be compiled for, and with which arguments")
    command("doctor", "which tools and packages are here")
    return root


def _compile_options(p: Arguments, tuning: bool = True) -> None:
    how = p.add_argument_group("how a model is compiled")
    text = "such as cpu, raspberry-pi-4, cpu:mcpu=skylake or fpga:reuse=4 (default cpu; lhcc targets lists them)"
    how.add_argument("--target", metavar="TARGET", help=text)
    how.add_argument("--threads", type=positive, metavar="N", help="threads that a run uses (default 1)")
    if tuning:
        how.add_argument("--tuning", metavar="FILE", help="the database that lhcc tune wrote")
    text = "int8 for models of integers times scales (default fp32)"
    how.add_argument("--precision", default="fp32", metavar="fp32|int8", help=text)
    text = "an int8 model takes and gives numbers, or the integers that stand for them (default float)"
    how.add_argument("--io", default="float", metavar="float|integer", help=text)
    text = "int8 by products, or by shifts and additions alone (default multiply)"
    how.add_argument("--arith", default="multiply", metavar="multiply|shift", help=text)
    text = "dense: without using what compression saves (default auto)"
    how.add_argument("--encoding", default="auto", metavar="auto|dense", help=text)
    if tuning:
        text = "for int8 and fpga: .npz file with inputs x to take ranges from"
        how.add_argument("--calibrate", metavar="FILE", help=text)
    _input_shape(how)
    if tuning:
        boards = p.add_argument_group("for boards")
        boards.add_argument("--max-ram", metavar="SIZE", help="refuse a model that needs more, such as 256K")
        boards.add_argument("--max-flash", metavar="SIZE", help="the same for weights and code together, such as 1M")
    fpga = p.add_argument_group("for fpga")
    fpga.add_argument("--strict", action="store_true", help="refuse what would leave a part to the CPU")
    fpga.add_argument("--max-luts", type=positive, metavar="N", help="LUTs that there are (default: device)")
    fpga.add_argument("--max-bram", type=positive, metavar="N", help="the same for block memories of 36 kbit")
    fpga.add_argument("--target-fps", type=amount, metavar="N", help="images per second that must be reached")


def target_with_limits(options: argparse.Namespace) -> str | None:
    """The target that was named, with the limits that were given beside it as arguments."""
    target: str | None = getattr(options, "target", None)
    for name in ("max_luts", "max_bram", "target_fps"):
        value = getattr(options, name, None)
        if value is not None:
            target = target or "cpu"
            target += f"{',' if ':' in target else ':'}{name}={value}"
    return target


def _emulate(p: Arguments) -> None:
    p.add_argument("--emulate", action="store_true", help="under QEMU, for code of another processor: without times")


def _rpc(p: Arguments) -> None:
    p.add_argument("--rpc", metavar="HOST:PORT", help="measure on the machine where lhcc serve runs, or on a tracker's")
    p.add_argument("--key", default="", metavar="NAME", help="which machine of the tracker, such as rpi4")


def _input_shape(p: argparse._ActionsContainer) -> None:
    text = "shape of an input whose dimensions the model leaves open"
    p.add_argument("--input-shape", action="append", default=[], metavar="NAME=1,3,32,32", help=text)


def _inputs(p: Arguments) -> None:
    text = ".npy file of an input, in order, or .npz file of inputs by name (default: random numbers)"
    p.add_argument("--input", action="append", default=[], metavar="FILE", help=text)
