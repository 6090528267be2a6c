"""The search for a quantization: remedies one after the other, each kept only if the embeddings come nearer to float.

A remedy's parameters are chosen site by site on sampled positions (local.py); whether it stays, the whole network
decides. Then layers go back to float, the ones that cost most first, until the gate holds or the budget is spent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgeclip.build.capture import Batch, Sample, embeddings, runner, threads, with_outputs
from edgeclip.build.findings import SENSITIVITY_FRAMES, Findings, Sensitivity, Trial
from edgeclip.build.local import Choice, Local, outliers
from edgeclip.build.measure import Spread, distance, expected_agreement
from edgeclip.build.onnxgraph import session
from edgeclip.build.recipe import Search
from edgeclip.build.sites import Graph, Site
from edgeclip.build.spec import Spec, by_greatest, quantized, quantized_graph
from edgeclip.build.waists import behind, waist_before, waists
from edgeclip.progress import Progress

WORTH = 0.02  # a remedy stays that takes this share off the error; less is noise
MARGIN = 0.2  # of the error that the gate allows: frames from elsewhere lose twice as much, and near ties turn
AGREES = 98.0  # percent of frames that are to keep float's best label, where labels are known
RESERVED = 0.35  # of the time, for sensitivity and fallback: without them no gate may be reached
STEP = 1.25  # fallback takes so many times more layers each time
FREE = ("norm", "gate")  # whose neighbours take a factor in without an operator
WORTH_AN_OPERATOR = 0.8  # of a site's error, at most
SMALL_SHARE = 0.01  # of the weights: below it, a layer's speed does not matter


@dataclass(frozen=True)
class Reached:
    """By a spec on the judged frames. agrees: percent, as expected_agreement() has it; None without known labels."""

    centred: Spread
    agrees: float | None


@dataclass
class Searcher:
    """State of one search. deadline_s: of time.monotonic(); until_s: of what is being done."""

    graph: Graph
    sites: list[Site]
    sample: Sample
    recipe: Search
    gate: float
    deadline_s: float
    progress: Progress
    trials: list[Trial] = field(default_factory=list)
    out_of_time: str = ""

    def __post_init__(self) -> None:
        self.locals: dict[str, Local] = {}
        self.began_s = self.until_s = time.monotonic()

    def local(self, site: Site, apart: tuple[int, ...] = ()) -> Local:
        known = self.locals.get(site.source)
        if known is None or known.apart != apart:
            known = self.locals[site.source] = Local(self.graph, site, self.sample.seen[site.source], apart)
        return known

    def late(self, what: str) -> bool:
        if time.monotonic() < self.until_s:
            return False
        self.out_of_time = self.out_of_time or what
        return True

    def reached(self, spec: Spec) -> Reached:
        reference, texts = self.sample.reference, self.sample.texts
        rows = embeddings(quantized(self.graph, self.sites, spec), self.sample.judged)
        agrees = None if texts is None else expected_agreement(reference, rows, texts)
        return Reached(distance(reference, rows).centred, agrees)

    def start(self) -> Spec:
        """Every site by min-max, but for what the recipe keeps float."""
        ranges = {site.source: self.sample.seen[site.source].range() for site in self.sites}
        greatest = {source: max(-low, high) for source, (low, high) in ranges.items()}
        return by_greatest(self.sites, greatest, self.recipe.keep_float)

    def run(self) -> tuple[Spec, Findings]:
        reserved = RESERVED if self.recipe.fallback else 0.0
        self.until_s = self.deadline_s - reserved * (self.deadline_s - self.began_s)
        spec = self.start()
        best = self.reached(spec)
        self.note("min-max", best, True)
        remedies: list[tuple[str, Callable[[Spec], Spec]]] = [
            ("observers", self.observed),
            ("outliers apart", self.apart),
            ("smoothing behind LayerNorm", lambda spec: self.smoothed(spec, "norm")),
            ("smoothing behind GELU", lambda spec: self.smoothed(spec, "gate")),
            ("smoothing elsewhere", lambda spec: self.smoothed(spec, "other")),
            ("whole pixels", self.whole_pixels),
            ("bias correction", self.corrected),
        ]
        # Twice: what does not help beside a worse fault may help once that is gone.
        for again in (False, True):
            kept_any = False
            for name, remedy in list(remedies):
                if self.late(name):
                    break
                before = spec
                spec, best = self.tried(f"{name}, again" if again else name, remedy, spec, best)
                if spec is not before:
                    remedies.remove((name, remedy))
                    kept_any = True
            if not kept_any:
                break
        # Last: it is of the weights as they are rewritten, and of the inputs as they are rounded.
        if not self.late("weight rounding"):
            spec, best = self.tried("weight rounding", self.rounded, spec, best)
        self.until_s = self.deadline_s
        sensitivity = self.sensitivity(spec) if self.recipe.sensitivity or self.recipe.fallback else []
        if self.recipe.fallback:
            spec = self.fallback(spec, best, sensitivity)
        floats = set(spec.floats())
        return spec, Findings(
            frames=len(self.sample.judged),
            trials=self.trials,
            sensitivity=[Sensitivity(s.layers, s.error, s.layers in floats) for s in sensitivity],
            floating=sorted(floats),
            int8_weights=100.0 * sum(share for name, share in self.shares().items() if name not in floats),
            seconds=time.monotonic() - self.began_s,
            out_of_time=self.out_of_time,
        )

    def tried(self, name: str, remedy: Callable[[Spec], Spec], spec: Spec, best: Reached) -> tuple[Spec, Reached]:
        """The better of the spec with the remedy and without."""
        changed = remedy(spec)
        if changed is spec:
            return spec, best
        result = self.reached(changed)
        kept = 1.0 - result.centred.mean < (1.0 - WORTH) * (1.0 - best.centred.mean)
        self.note(name, result, kept)
        return (changed, result) if kept else (spec, best)

    def note(self, remedy: str, result: Reached, kept: bool) -> None:
        seconds = time.monotonic() - self.began_s
        self.trials.append(Trial(remedy, result.centred.mean, result.centred.p1, kept, seconds, result.agrees))
        agrees = "" if result.agrees is None else f", agrees {result.agrees:.1f} %"
        verdict = "kept" if kept else "not kept"
        self.progress.note(f"{remedy}: centred cosine {result.centred.mean:.4f}{agrees}, {verdict}")
        self.progress.advance()

    def active(self, spec: Spec, *origins: str) -> list[Site]:
        return [s for s in self.sites if not spec.entries[s.source].floating and (not origins or s.origin in origins)]

    def whole_pixels(self, spec: Spec) -> Spec:
        """Pixels less 128 need no rounding: scale 1."""
        found = self.active(spec, "pixels")
        if not found or not self.recipe.whole_pixels:
            return spec
        changes = {
            site.source: msgspec.structs.replace(
                spec.entries[site.source], whole=True, observer="whole", threshold=127.0, greatest=128.0
            )
            for site in found
        }
        return replace(spec, entries={**spec.entries, **changes})

    def observed(self, spec: Spec) -> Spec:
        if len(self.recipe.observers) < 2:
            return spec
        found = [site for site in self.active(spec) if not spec.entries[site.source].whole]
        return self.with_choices(spec, [self.plain(spec, site) for site in found])

    def plain(self, spec: Spec, site: Site) -> Choice:
        return self.local(site, spec.entries[site.source].apart).plain(self.recipe.observers)

    def apart(self, spec: Spec) -> Spec:
        """Channels that reach much farther than the others are computed in float, where that spares the others much."""
        choices = []
        for site in self.active(spec, "gate", "other") if self.recipe.outliers_apart else ():
            found = outliers(self.sample.seen[site.source])
            local = self.local(site)
            if not found or not local.measurable or any(layer.biased == self.graph.output for layer in site.layers):
                continue
            if self.late(f"outliers of {site.name}"):
                break
            entry = spec.entries[site.source]
            before = entry.error if entry.error is not None else local.plain(["min-max"]).error
            local = self.local(site, found)
            choice = local.plain(self.recipe.observers)
            if not entry.plain:  # smoothed already, and so it is to stay
                choice = min(choice, self.rewritten(local), key=lambda one: one.error)
            if choice.error < WORTH_AN_OPERATOR * before:
                choices.append(choice)
        return self.with_choices(spec, choices) if choices else spec

    def smoothed(self, spec: Spec, origin: str) -> Spec:
        if not self.recipe.smooth and not self.recipe.centre:
            return spec
        choices = []
        for site in self.active(spec, origin):
            local = self.local(site, spec.entries[site.source].apart)
            if local.measurable and not self.late(f"smoothing {site.name}"):
                choice = self.rewritten(local)
                before = spec.entries[site.source].error
                if before is None:
                    before = local.plain(["min-max"]).error
                # Behind LayerNorm and GELU it is free; elsewhere it takes an operator, for which it has to pay.
                if choice.error < (before if origin in FREE else WORTH_AN_OPERATOR * before):
                    choices.append(choice)
        return self.with_choices(spec, choices) if choices else spec

    def rewritten(self, local: Local) -> Choice:
        return local.rewritten(self.recipe.observers, self.recipe.smooth, self.recipe.centre)

    def with_choices(self, spec: Spec, choices: Sequence[Choice]) -> Spec:
        vectors = dict(spec.vectors)
        for choice in choices:
            source = choice.entry.source
            for name, vector in (("scale", choice.scale), ("shift", choice.shift)):
                vectors.pop(f"{source} {name}", None)
                if vector is not None:
                    vectors[f"{source} {name}"] = vector
        return replace(spec, entries={**spec.entries, **{c.entry.source: c.entry for c in choices}}, vectors=vectors)

    def corrected(self, spec: Spec) -> Spec:
        if not self.recipe.bias_correction:
            return spec
        entries, vectors = dict(spec.entries), dict(spec.vectors)
        for site in self.active(spec):
            entry = spec.entries[site.source]
            local = self.local(site, entry.apart)
            if not local.measurable or entry.whole:
                continue
            choice = Choice(entry, vectors.get(f"{site.source} scale"), vectors.get(f"{site.source} shift"))
            for layer, amount in zip(site.layers, local.correction(choice), strict=True):
                vectors[f"{layer.node} bias"] = amount
            entries[site.source] = msgspec.structs.replace(entry, corrected=True)
        return replace(spec, entries=entries, vectors=vectors)

    def rounded(self, spec: Spec) -> Spec:
        """Weights rounded layer by layer so that the outputs, not the weights, are nearest; biases corrected anew."""
        if not self.recipe.weight_rounding:
            return spec
        entries, vectors, integers = dict(spec.entries), dict(spec.vectors), dict(spec.integers)
        for site in self.active(spec):
            if self.late(f"weight rounding {site.name}"):
                break
            entry = spec.entries[site.source]
            local = self.local(site, entry.apart)
            if not local.measurable or entry.whole:
                continue
            choice = Choice(entry, vectors.get(f"{site.source} scale"), vectors.get(f"{site.source} shift"))
            weights = local.rounded(choice)
            if weights is None:
                continue
            entries[site.source] = msgspec.structs.replace(entry, rounded=True)
            for layer, weight, amount in zip(site.layers, weights, local.correction(choice, weights), strict=True):
                integers[layer.node] = weight
                if entry.corrected:
                    vectors[f"{layer.node} bias"] = amount
        return replace(spec, entries=entries, vectors=vectors, integers=integers) if entries != spec.entries else spec

    def sensitivity(self, spec: Spec) -> list[Sensitivity]:
        """Every site alone in INT8, the most harmful first; the network before it is run once for all of them."""
        narrow = waists(self.graph)
        judged = self.sample.judged
        frames = judged[:: max(1, len(judged) // SENSITIVITY_FRAMES)][:SENSITIVITY_FRAMES]
        starts = {site.source: waist_before(self.graph, narrow, site) for site in self.active(spec)}
        inputs = self.waist_values(sorted(set(starts.values())), frames)
        reference = embeddings(self.graph.build(), frames)
        found = []
        for site in self.active(spec):
            if self.late("sensitivity"):
                break
            start = starts[site.source]
            values = inputs[start]
            alone = quantized_graph(self.graph, self.sites, spec, {site.source})
            run = runner(behind(alone, start, values[0].shape).build())
            rows = np.concatenate([run(value) for value in values])
            found.append(Sensitivity(site.name, 1.0 - distance(reference, rows).centred.mean))
            self.progress.advance()
        return sorted(found, key=lambda item: -item.error)

    def waist_values(self, names: list[str], frames: list[Batch]) -> dict[str, list[npt.NDArray[Any]]]:
        model = self.graph.build()
        computed = [name for name in names if name != self.graph.input]
        with_outputs(model, computed)
        running = session(model.SerializeToString(), threads())
        values: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in names}
        for frame in frames:
            if self.graph.input in values:
                values[self.graph.input].append(frame)
            if computed:
                for name, value in zip(computed, running.run(computed, {self.graph.input: frame}), strict=True):
                    values[name].append(value)
        return values

    def shares(self) -> dict[str, float]:
        """Of all stored weights, which is about the time that a site takes."""
        sizes = {site.name: sum(self.graph.arrays[layer.weight].size for layer in site.layers) for site in self.sites}
        return {name: size / sum(sizes.values()) for name, size in sizes.items()}

    def fallback(self, spec: Spec, best: Reached, ranked: list[Sensitivity]) -> Spec:
        """Layers back to float until the gate holds and labels agree, those first that cost much and are small."""
        allowed = MARGIN * (1.0 - self.gate)
        shares = self.shares()
        ranked = sorted(ranked, key=lambda item: -item.error / (shares[item.layers] + SMALL_SHARE))
        kept_float = sum(shares[name] for name in spec.floats())  # by the recipe
        int8 = 100.0 * (1.0 - kept_float - np.cumsum([shares[item.layers] for item in ranked]))
        most = min(self.recipe.most_float, int(np.argmin(np.append(int8 >= self.recipe.least_int8, False))))
        by_name = {site.name: site.source for site in self.sites}
        # Errors of layers add up, more or less: what is left after a few is not measured while it is far too much.
        left = np.cumsum([item.error for item in reversed(ranked)])[::-1]
        count = max(0, min(most, int(np.argmax(np.append(left, 0.0) <= 2.0 * allowed))) - 1)
        while count < most:
            agrees = best.agrees is None or best.agrees >= AGREES
            if agrees and 1.0 - best.centred.mean <= allowed:
                break
            # Without time to find out how many it takes, all that may: a slower engine rather than none.
            count = most if self.late("float fallback") else min(most, max(count + 1, round(count * STEP)))
            entries = dict(spec.entries)
            for source in (by_name[item.layers] for item in ranked[:count]):
                entries[source] = msgspec.structs.replace(entries[source], floating=True)
            spec = replace(spec, entries=entries)
            best = self.reached(spec)
            self.note(f"{count} of {len(self.sites)} sites float", best, True)
        return spec


def searches(recipe: Search) -> bool:
    """Whether there is anything to be tried: min-max alone needs no search."""
    tried = (recipe.smooth, recipe.centre, recipe.whole_pixels, recipe.bias_correction, recipe.fallback)
    others = (recipe.weight_rounding, recipe.outliers_apart, recipe.sensitivity)
    return len(recipe.observers) > 1 or any(tried) or any(others)


def search(
    graph: Graph, sites: list[Site], sample: Sample, recipe: Search, gate: float, deadline_s: float, progress: Progress
) -> tuple[Spec, Findings]:
    """The best spec found before `deadline_s` (of time.monotonic()), and how it was found.

    gate: the mean centred cosine to float that it is to reach; verify decides on other frames whether it does.
    """
    return Searcher(graph, sites, sample, recipe, gate, deadline_s, progress).run()
