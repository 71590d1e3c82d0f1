"""Arguments of commands: usage in one line, mistakes as one sentence with the way out."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any, NoReturn

from lhcc.errors import InputError, near


class Arguments(argparse.ArgumentParser):
    """`options_of` are the parsers of the commands, where there are commands."""

    def __init__(self, **given: Any) -> None:
        super().__init__(allow_abbrev=False, **given)
        self.options_of: dict[str, Arguments] = {}

    def format_usage(self) -> str:
        return f"{self._line()}\n"

    def format_help(self) -> str:
        _, _, explained = super().format_help().partition("\n\n")
        return f"{self._line()}\n\n{explained}"

    def _line(self) -> str:
        """What must be given; all that may be is listed below."""
        own = [action for action in self._actions if action.required]
        parts = [f"{'-o ' if action.option_strings else ''}{_placeholder(action)}" for action in own]
        return " ".join(["usage:", self.prog, *parts, "[OPTIONS]"])

    def parse_args(self, arguments: Any = None, namespace: Any = None) -> Any:
        options, strange = self.parse_known_args(arguments, namespace)
        if strange:
            command = self.options_of.get(getattr(options, "command", ""), self)
            named = next((text for text in strange if text.startswith("-")), None)
            if named is None:
                command.error(f"'{strange[0]}' is one argument too many")
            name = named.partition("=")[0]
            raise InputError(f"{command.prog} has no option '{name}'", near(name, command._option_string_actions))
        return options

    def error(self, message: str) -> NoReturn:
        """Says in our words what argparse found."""
        message = message.removeprefix("argument ")
        way_out = f"{self.prog} --help lists what it takes"
        if choice := re.fullmatch(r"(.*): invalid choice: '?(.*?)'? \(choose from (.*)\)", message):
            what, given, known = choice.groups()
            raise InputError(
                f"{self.prog} has no {what.lower()} '{given}'", near(given, known.replace("'", "").split(", "))
            )
        if missing := re.fullmatch(r"the following arguments are required: (.*)", message):
            raise InputError(f"{self.prog} needs {missing[1]}", way_out)
        raise InputError(message, way_out)


def _placeholder(action: argparse.Action) -> str:
    name = action.metavar or action.dest
    if isinstance(name, tuple):
        name = " ".join(name)
    if action.choices and not isinstance(action, argparse._SubParsersAction):
        name = "|".join(map(str, action.choices))
    return f"{name}..." if action.nargs == "+" else name


# --- types of values -------------------------------------------------------------------------------------------------


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def port(text: str) -> int:
    """Where a server can listen."""
    value = positive(text)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port: these are 1 to 65535")
    return value


def number(text: str) -> float:
    """Neither infinite nor NaN."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number")
    return value


def amount(text: str) -> float:
    """A number of 0 or more."""
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not 0 or more")
    return value
