"""Labelling the clouds of a file, folder or bag: one after the other, resumable, memory flat."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.bar import Bar
from uov_jax.clouds import (
    Cloud,
    Clouds,
    Loader,
    Reading,
    read_label,
    write_arrays,
    write_colored,
    write_label,
)
from uov_jax.clouds.labels import ARRAYS, COLORED, LABEL, MARK
from uov_jax.contents import parse_json
from uov_jax.errors import InputError, UserError, decoration
from uov_jax.evaluation.judging import evenly_spaced, prefetched
from uov_jax.files import remove_unfinished, write_text
from uov_jax.pictures.animation import Frame
from uov_jax.pictures.bird_eye import bird_eye
from uov_jax.pictures.rerun import require_rerun, write_recording
from uov_jax.pictures.room import room_picture
from uov_jax.signals import StopRequest
from uov_jax.tasks.prediction import CloudLabeller

PICTURE = f"{MARK}.png"
JOURNAL = "predicted.jsonl"
SUMMARY = "predicted.txt"
KINDS = ("label", "npz", "ply")
AHEAD = 1  # clouds that a thread reads ahead
_OPTION = re.compile(r"--[a-z-]+")


@dataclasses.dataclass(frozen=True)
class PredictionSettings:
    """What is done with every cloud.

    Attributes:
        output: folder of the files; None for the folder of the clouds.
        kinds: of files, among `KINDS`; at least one.
        pictures: evenly spaced clouds that are drawn.
        afi: smooth the labels of sweeps.
        recording: file for the Rerun viewer, or None.
        again: also clouds that were labelled before.
        reading: how the clouds were read; part of what labels depend on.
        lift: metres, added to the height of every point.

    """

    output: Path | None = None
    kinds: tuple[str, ...] = KINDS
    pictures: int = 4
    afi: bool = False
    recording: Path | None = None
    again: bool = False
    reading: Reading = Reading()
    lift: float = 0.0

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise InputError(f"kinds {self.kinds}: expected some of {', '.join(KINDS)}")
        if not math.isfinite(self.lift):
            raise InputError(f"lift {self.lift}: expected a number of metres")
        if self.recording is not None and "label" not in self.kinds:
            raise InputError(
                f"{self.recording}: a recording is made of the .label files, which are not to be "
                "written: add label to --files"
            )


@dataclasses.dataclass
class PredictionResult:
    """What came of a call.

    Attributes:
        output: the folder.
        done: clouds that have their labels, those of earlier calls included.
        earlier: how many of them are of earlier calls.
        failed: clouds that could not be labelled.
        total: clouds that there are, of bags as they say.
        points: int64[C], points of each class over all that are done.
        not_finite: points without a label because they are not finite.
        pictures: of clouds that there are.
        finished: whether no cloud is left.
        signal: that was sent meanwhile, None without one.
        recording: file for the Rerun viewer, None without one.

    """

    output: Path
    done: int
    earlier: int
    failed: int
    total: int
    points: np.ndarray
    not_finite: int
    pictures: int = 0
    finished: bool = True
    signal: int | None = None
    recording: Path | None = None


class Journal:
    """A line for every cloud whose files are whole, in the folder of the labels.

    Each says what its labels were made with and of which file, by which clouds that have changed,
    or are labelled in another way, are not taken for done. A line that a kill cut off is none.

    Attributes:
        done: what is known of the clouds that were labelled in this way.
        files: of which file the labels are that lie here, labelled in whatever way.

    """

    def __init__(self, folder: Path, made_with: str) -> None:
        """Read what is there; `made_with` is a word for the network and the settings."""
        self.path, self._made_with = folder / JOURNAL, made_with
        self.done: dict[str, dict[str, Any]] = {}
        self.files: dict[str, str] = {}
        self._torn = False
        if not self.path.is_file():
            return
        content = self.path.read_bytes()
        self._torn = bool(content) and not content.endswith(b"\n")
        for line in content.decode("utf-8", "replace").splitlines():
            try:
                entry = parse_json(line)
                name, made = str(entry["cloud"]), entry["made_with"]
                counts = [int(count) for count in entry["points"]]
                file, stamp = str(entry["file"]), str(entry["stamp"])
                facts: dict[str, Any] = {"file": file, "stamp": stamp}
                facts |= {"points": counts, "not_finite": int(entry["not_finite"])}
            except (ValueError, KeyError, TypeError):
                continue
            # The last line of a cloud counts: its files are of that call.
            self.done.pop(name, None)
            self.files[name] = file
            if made == made_with:
                self.done[name] = facts

    def is_of(self, name: str, load: Loader) -> bool:
        """Whether a cloud is done, and the file still what it was."""
        facts = self.done.get(name, {})
        return (facts.get("file"), facts.get("stamp")) == (_resolved(load), load.stamp)

    def require_own(self, name: str, load: Loader) -> None:
        """Refuse to write over labels that are there, of another file that still is."""
        other = self.files.get(name)
        here = any(path.exists() for path in _paths(self.path.parent, name, KINDS))
        if here and other is not None and other != _resolved(load) and Path(other).exists():
            raise InputError(
                f"{load.path}: {self.path.parent} has labels of that name already, of {other}: "
                "give another --output, or delete those"
            )

    def begin(self, name: str, load: Loader) -> None:
        """Note that files of a cloud are about to be written over, if there are some.

        Else a kill would leave some of one call and some of another, and the older line.
        """
        if name in self.files:
            facts = {"file": _resolved(load), "stamp": load.stamp, "points": [], "not_finite": 0}
            self._write({"cloud": name, "made_with": None, **facts})

    def add(self, name: str, load: Loader, points: np.ndarray, not_finite: int) -> None:
        """Note that the files of a cloud are whole."""
        facts: dict[str, Any] = {"file": _resolved(load), "stamp": load.stamp}
        facts |= {"points": points.tolist(), "not_finite": not_finite}
        self._write({"cloud": name, "made_with": self._made_with, **facts})
        self.done[name] = facts

    def _write(self, entry: Mapping[str, Any]) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(b"\n" * self._torn + json.dumps(entry).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # a full disk does not say whose
            error.filename = error.filename or str(self.path)
            raise
        self._torn = False
        self.files[entry["cloud"]] = entry["file"]


def _resolved(load: Loader) -> str:
    return str(load.path.resolve())


def made_with(network: CloudLabeller, settings: PredictionSettings) -> str:
    """A word for all that labels depend on, beside the clouds."""
    source = network.source / "arrays" if network.source.is_dir() else network.source
    facts = [
        str(network.source.resolve()),
        source.stat().st_mtime_ns,
        network.identity(),
        settings.afi,
        settings.lift,
        sorted(settings.kinds),
        dataclasses.asdict(settings.reading),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def label_clouds(
    network: CloudLabeller, clouds: Clouds, settings: PredictionSettings
) -> PredictionResult:
    """Label clouds and write what is asked for; the files of each before the next is begun.

    What stops it in between loses the cloud it was at, and the same call goes on after the others.
    A cloud that cannot be labelled is said on the bar's stream and left out, unless it is the only
    one.

    Args:
        network: labels them.
        clouds: of a file, a folder or a bag.
        settings: what is written.

    Raises:
        MissingPackageError: a recording is asked for without rerun-sdk.
        UserError: the single cloud cannot be labelled.
        OSError: a file cannot be written.

    """
    if settings.recording is not None:
        require_rerun()
    output = settings.output or (clouds.path if clouds.path.is_dir() else clouds.path.parent)
    output.mkdir(parents=True, exist_ok=True)
    journal = Journal(output, made_with(network, settings))
    with StopRequest() as stop:
        result = _Run(network, clouds, settings, output, journal).go(stop)
    if settings.recording is not None and result.finished and result.done:
        frames = _frames(network, clouds, settings, output, journal)
        settings.recording.parent.mkdir(parents=True, exist_ok=True)
        write_recording(frames, network.colors, settings.recording, names=network.classes)
        result.recording = settings.recording
    write_text(output / SUMMARY, summary(network, result))
    return result


class _Run:
    """One call of `label_clouds`."""

    def __init__(
        self,
        network: CloudLabeller,
        clouds: Clouds,
        settings: PredictionSettings,
        output: Path,
        journal: Journal,
    ) -> None:
        self.network, self.clouds, self.settings = network, clouds, settings
        self.output, self.journal = output, journal
        self.total = len(clouds)
        self.drawn = set(evenly_spaced(range(self.total), settings.pictures))
        self.said: set[str] = set()

    def go(self, stop: StopRequest) -> PredictionResult:
        """Label the clouds that are left."""
        names: list[str] = []
        gone_through = failed = earlier = 0
        with Bar(total=self.total, unit="cloud", disable=self.total == 1) as bar:
            for number, name, load, cloud in self._read(names):
                gone_through += load.clouds
                if cloud is None:
                    earlier += 1
                    bar.update()
                    continue
                self.journal.done.pop(name, None)  # if it is done, then of what it was before
                try:
                    if isinstance(cloud, UserError):
                        raise cloud
                    self.journal.require_own(name, load)
                    self._label(number, name, load, cloud)
                except UserError as error:
                    if self.total == 1:
                        raise
                    failed += load.clouds
                    more = f" ({load.clouds:,} clouds)" if load.clouds > 1 else ""
                    Bar.write(f"{name} is left out{more}: {error}")
                bar.update(load.clouds)
                if stop:
                    break
        counted = [self.journal.done[name] for name in names if name in self.journal.done]
        points = np.zeros(len(self.network.classes), np.int64)
        for facts in counted:
            points += np.array(facts["points"], np.int64)
        not_finite = sum(facts["not_finite"] for facts in counted)
        return PredictionResult(
            self.output,
            len(counted),
            earlier,
            failed,
            self.total,
            points,
            not_finite,
            sum((self.output / f"{name}{PICTURE}").is_file() for name in names),
            not stop or gone_through >= self.total,
            stop.signal,
        )

    def _read(
        self, names: list[str]
    ) -> Iterator[tuple[int, str, Loader, Cloud | UserError | None]]:
        """Clouds in order, read ahead by a thread; None for those that are done."""

        def items() -> Iterator[tuple[int, str, Loader]]:
            for number, (name, load) in enumerate(self.clouds):
                names.append(name)
                yield number, name, load

        def read(
            item: tuple[int, str, Loader],
        ) -> tuple[int, str, Loader, Cloud | UserError | None]:
            number, name, load = item
            if self._is_done(number, name, load):
                return number, name, load, None
            try:
                return number, name, load, load().lifted(self.settings.lift)
            except UserError as error:
                return number, name, load, error

        return prefetched(read, items(), AHEAD)

    def _is_done(self, number: int, name: str, load: Loader) -> bool:
        if self.settings.again or not self.journal.is_of(name, load):
            return False
        kinds = (*self.settings.kinds, *(["picture"] * (number in self.drawn)))
        return all(path.is_file() for path in _paths(self.output, name, kinds))

    def _label(self, number: int, name: str, load: Loader, cloud: Cloud) -> None:
        """Label one cloud, write its files, and note that they are whole."""
        network, settings, output = self.network, self.settings, self.output
        for note in cloud.source.notes:
            self._say(name, note, note)
        found = network.predict_cloud(cloud, afi=settings.afi)
        for warning in found.warnings:
            self._say(name, f"does not look like the training data: {warning}", warning)
        labels = found.labels
        self.journal.begin(name, load)
        remove_unfinished(output, [p.name for p in _paths(output, name, (*KINDS, "picture"))])
        if "label" in settings.kinds:
            write_label(output, name, labels)
        if "npz" in settings.kinds:
            write_arrays(output, name, labels, network.classes)
        if "ply" in settings.kinds:
            write_colored(output, cloud, labels, network.classes, network.colors)
        if number in self.drawn:
            with decoration(f"The picture of {name}", Bar.write):
                _draw(network, cloud, labels, output / f"{name}{PICTURE}")
        counts = np.bincount(labels[found.finite], minlength=len(network.classes))
        self.journal.add(name, load, counts, int(np.count_nonzero(~found.finite)))

    def _say(self, name: str, sentence: str, kind: str) -> None:
        """Say something of a cloud; of many clouds, each kind of thing once."""
        option = _OPTION.search(kind)
        kind = option[0] if option else re.sub(r"[\d,.]+", "0", kind)
        if kind in self.said:
            return
        self.said.add(kind)
        others = " (said once, others may be alike)" if self.total > 1 else ""
        Bar.write(f"{name}: {sentence}{others}")


def summary(network: CloudLabeller, result: PredictionResult) -> str:
    """A table: the points of every class that there are, most first, and those without a label."""
    total = int(result.points.sum())
    shown = [index for index in np.argsort(-result.points, kind="stable") if result.points[index]]
    names = {index: network.classes[index].replace("_", " ") for index in shown}
    width = max([len("not finite"), *map(len, names.values())])
    lines = [f"{'class':{width}}  {'points':>13}  share"]
    for index, name in names.items():
        share = 100 * result.points[index] / max(total, 1)
        lines.append(f"{name:{width}}  {result.points[index]:13,}  {share:5.1f} %")
    if result.not_finite:
        lines.append(f"{'not finite':{width}}  {result.not_finite:13,}")
    return "\n".join(lines)


def _paths(output: Path, name: str, kinds: tuple[str, ...]) -> list[Path]:
    endings = {"label": LABEL, "npz": ARRAYS, "ply": COLORED, "picture": PICTURE}
    return [output / f"{name}{endings[kind]}" for kind in kinds]


def _draw(network: CloudLabeller, cloud: Cloud, labels: np.ndarray, path: Path) -> None:
    points, panels = cloud.xyz[cloud.finite], {"prediction": labels[cloud.finite]}
    if cloud.colors is not None and network.is_of_rooms:
        room_picture(
            points, panels, network.colors, path,
            point_colors=cloud.colors[cloud.finite], names=network.classes, title=cloud.name,
        )  # fmt: skip
    else:
        bird_eye(
            points, panels, network.colors, path,
            names=network.classes, title=cloud.name, ahead=network.card.ahead,
        )  # fmt: skip


def _frames(
    network: CloudLabeller,
    clouds: Clouds,
    settings: PredictionSettings,
    output: Path,
    journal: Journal,
) -> Iterator[Frame]:
    """The clouds that are done, read once more, with their labels as they were written."""
    for name, load in clouds:
        if not journal.is_of(name, load):
            continue
        cloud = load().lifted(settings.lift)
        labels = read_label(output / f"{name}{LABEL}", len(cloud)).astype(np.uint8)[cloud.finite]
        colors = None
        if network.is_of_rooms and cloud.colors is not None:
            colors = cloud.colors[cloud.finite]
        yield Frame(cloud.xyz[cloud.finite], {"prediction": labels}, colors=colors)
