"""What a run looks for: labels, watches, and `unknown`, from options and files; and their edits while it runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from edgeclip.bundle import Bundle
from edgeclip.config import Config
from edgeclip.errors import UsageError
from edgeclip.region import WHOLE, Regions
from edgeclip.runtime.background import Embed, load_background
from edgeclip.runtime.editedfile import EditedFile
from edgeclip.runtime.evidence import Unknown
from edgeclip.runtime.labelbank import usual_labels
from edgeclip.runtime.labels import LabelFile, folded, labels_from_options, parse_labels
from edgeclip.runtime.labelwatch import LabelWatch
from edgeclip.runtime.shots import Shots
from edgeclip.runtime.taughtlabels import TaughtLabels
from edgeclip.runtime.thresholds import Thresholds, read_thresholds, thresholds_path
from edgeclip.runtime.watchbank import WatchBank, load_watch_bank, provenance
from edgeclip.runtime.watches import MISSED, WatchFile, load_watches
from edgeclip.runtime.watching import Watching
from edgeclip.types import Label, TextBank

Notify = Callable[[str], None]
TAUGHT_LOOK_S = 0.2
Watches = tuple[WatchFile, Thresholds | None]


@dataclass(frozen=True)
class Asked:
    """labels: to begin with, which exclude each other. label_file, watch_file: those to follow, where there are any."""

    labels: Sequence[Label]
    label_file: LabelFile | None
    watch_file: EditedFile[Watches] | None


def read_asked(config: Config, bundle: Bundle, notify: Notify) -> Asked:
    """Reads the files that a Config names. Raises DataError or ConfigError where they are bad, UsageError where both
    say the labels."""
    watch_file = watches_at(config.watch) if config.watch else None
    theirs = watch_file.content[0].exclusive if watch_file is not None else ()
    if theirs and (config.labels or config.label):
        raise _both(config)
    if config.labels:
        label_file = LabelFile(config.labels)
        return Asked(label_file.labels, label_file, watch_file)
    if config.label or watch_file is not None:
        return Asked(labels_from_options(config.label) if config.label else theirs, None, watch_file)
    labels = usual_labels(bundle)
    if config.source != ("demo",):
        whose = "built-in everyday ones" if bundle.manifest.text.bank is None else "names in the bundle's bank"
        notify(f"no labels given: using the {len(labels)} {whose} (--labels FILE or --label TEXT)")
    return Asked(labels, None, None)


def check_files(config: Config) -> None:
    """Raises DataError where the label or watches file that a Config names is bad. A pipe can be read once: later."""
    if config.labels and Path(config.labels).is_file():
        parse_labels(config.labels)
    if config.watch and Path(config.watch).is_file():
        watches_at(config.watch)


def _both(config: Config) -> UsageError:
    return UsageError(
        f"{config.watch} has `labels`, and {config.labels or '--label'} gives others", "keep one of the two sets"
    )


def watches_at(path: str) -> EditedFile[Watches]:
    """A watches file and the thresholds beside it."""
    beside = thresholds_path(path)
    return EditedFile(lambda: (load_watches(path), read_thresholds(beside)), path, beside)


class Looking:
    """Everything asked, ready for frames, and followed while it is edited. Use as a context manager.

    bank: the labels. watching: the watches on each of `sources`, None without a watches file. unknown: None where it
    is turned off. taught: what refines the labels, None where it is not to.
    embed: load_bank() for this bundle. Raises what it raises.
    """

    def __init__(
        self,
        asked: Asked,
        config: Config,
        bundle: Bundle,
        embed: Callable[..., TextBank],
        sources: Sequence[str],
        notify: Notify,
        taught: TaughtLabels | None = None,
    ) -> None:
        self._taught = taught
        self._bundle = bundle
        self._embed: Embed = functools.partial(embed, notices=notify)
        self._embed_quietly: Embed = embed  # the background is not the user's own
        self._notify = notify
        self._config = config
        self._fresh_watches: WatchBank | None = None
        self._undo = ExitStack()
        self.bank = self._in_force = self._labels_bank(asked.labels)
        self._of_file = (tuple(asked.labels), self.bank)  # the labels of the watches file, where it has any
        self.unknown = self._ready_unknown(asked) if asked.labels or asked.watch_file is not None else None
        self._label_watch: LabelWatch[tuple[Label, ...], TextBank] | None = None
        if asked.label_file is not None:
            self._label_watch = LabelWatch(asked.label_file, self._labels_bank, notify)
        self._taught_watch: LabelWatch[Shots, TextBank] | None = None
        if taught is not None:
            self._taught_watch = LabelWatch(
                taught,
                taught.changed,
                notify,
                TAUGHT_LOOK_S,
                kind="taught shots",
                describe=lambda some: str(sum(not shot.left_out for shot in some.shots)),
            )
        self._watch_watch: LabelWatch[Watches, _Ready] | None = None
        self._plain_watches: WatchBank | None = None
        self._said = ""
        self.watching: Watching | None = None
        if asked.watch_file is not None:
            ready = self._ready_watches(asked.watch_file.content)
            self._plain_watches = ready.watches
            self.watching = Watching(self._taught_watches(ready.watches), sources, self._take_watches)
            self._watch_watch = LabelWatch(
                asked.watch_file, self._ready_watches, notify, kind="watches", describe=_describe
            )

    def fresh_bank(self) -> TextBank | None:
        """New labels, once. The watches of the same edit are taken right after, before the same decision."""
        bank = self._label_watch.take() if self._label_watch is not None else None
        ready = self._watch_watch.take() if self._watch_watch is not None else None
        if ready is not None:
            self._plain_watches = ready.watches
            self._fresh_watches = self._taught_watches(ready.watches)
            if self.unknown is not None:
                self.unknown.miss(ready.missed)
            if ready.bank is not None and ready.bank is not self._in_force:
                bank = self._in_force = ready.bank
        if self._taught is None or self._taught_watch is None:
            return bank
        refined = self._taught_watch.take()
        if refined is not None and self._plain_watches is not None:
            self._fresh_watches = self._taught_watches(self._plain_watches)
        return self._taught.latest if bank is not None or refined is not None else None

    def regions(self) -> Regions:
        return self.watching.regions if self.watching is not None else WHOLE

    def __enter__(self) -> Looking:
        for watch in (self._label_watch, self._watch_watch, self._taught_watch):
            if watch is not None:
                self._undo.enter_context(watch)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._undo.close()

    def _take_watches(self) -> WatchBank | None:
        fresh, self._fresh_watches = self._fresh_watches, None
        return fresh

    def _taught_watches(self, bank: WatchBank) -> WatchBank:
        """With what was taught under their names. A tuned threshold keeps its promise for the text alone."""
        if self._taught is None:
            return bank
        names = ["" if watch.name in bank.tuned else watch.name for watch in bank.watches]
        shown = self._taught.shown(names, bank.texts[bank.positive], bank.background.null)
        every = self._taught.labels()
        mine = [name for name in names if folded(name) in every]
        tuned = [name for name in sorted(bank.tuned) if folded(name) in every]
        parts = [f"watches with taught shots: {', '.join(mine)}"] * bool(mine)
        parts += [f"tuned on text alone, and so without their shots: {', '.join(tuned)}"] * bool(tuned)
        said, self._said = self._said, "; ".join(parts)
        if self._said and self._said != said:
            self._notify(self._said)
        return bank if shown is None else replace(bank, shown=shown)

    def _ready_unknown(self, asked: Asked) -> Unknown | None:
        if self._config.unknown == 0.0:
            return None
        missed = asked.watch_file.content[0].missed if asked.watch_file is not None else MISSED
        return Unknown(load_background(self._bundle, self._embed_quietly).null, self._config.unknown or missed)

    def _ready_watches(self, content: Watches) -> _Ready:
        file, thresholds = content
        background = load_background(self._bundle, self._embed_quietly, file.background)
        space = self._bundle.manifest.space
        watches = load_watch_bank(
            file, background, self._embed, thresholds=thresholds, space=space, notify=self._notify
        )
        if file.watches:
            self._notify(provenance(file, thresholds, space))
        return _Ready(watches, self._ready_labels(file), self._config.unknown or file.missed)

    def _ready_labels(self, file: WatchFile) -> TextBank | None:
        """The labels of a watches file, the same bank as before where they are; None where options say the labels."""
        if self._config.labels or self._config.label:
            if file.exclusive:
                raise _both(self._config)
            return None
        if file.exclusive != self._of_file[0]:
            self._of_file = (file.exclusive, self._labels_bank(file.exclusive))
        return self._of_file[1]

    def _labels_bank(self, labels: Sequence[Label]) -> TextBank:
        bank = self._embed(labels)
        return bank if self._taught is None else self._taught.refine(bank)


@dataclass(frozen=True)
class _Ready:
    """A watches file. bank: its labels, None where options say them. missed: the rate of `unknown`."""

    watches: WatchBank
    bank: TextBank | None
    missed: float | None


def _describe(content: Watches) -> str:
    file = content[0]
    labels = f" and {len(file.labels)} labels" if file.labels else ""
    return f"{len(file.watches)} watches{labels}"
