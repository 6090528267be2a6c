"""argparse, complaining as everything else does."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any, NoReturn

from edgeclip.errors import UsageError


class Parser(argparse.ArgumentParser):
    """argparse, complaining in two lines like everything else, with the nearest word that there is."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word, message = unknown[0], f"{unknown[0]} is no option or argument of `{self.prog}`"
            if not word.startswith("-") and "--source" in self._option_string_actions:
                raise UsageError(
                    message, f"a source has its option: --source {word}; a pattern is quoted: --source 'shots/*.jpg'"
                )
            self._refuse(message, _nearest(word.partition("=")[0], self._option_string_actions))
        return known, unknown

    def error(self, message: str) -> NoReturn:
        argument, wrong, _ = message.partition(": invalid choice: ")
        word = message.split("'")[1] if wrong and "'" in message else ""
        if not word:
            self._refuse(message)
        choices = [name for action in self._actions for name in action.choices or ()]
        self._refuse(
            f"{word} is no {argument.removeprefix('argument ').lower()} of {self.prog}", _nearest(word, choices)
        )

    def _refuse(self, message: str, near: str = "") -> NoReturn:
        see = f"`{self.prog} --help` lists what there is"
        raise UsageError(message, f"did you mean `{near}`? {see}" if near else see)


def _nearest(word: str, known: Iterable[str]) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(word, list(known), 1)), "")
