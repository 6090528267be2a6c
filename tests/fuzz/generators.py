"""Where inputs come from: each feeds `count` of them, from number `first` of a seed on. Same seed, same inputs."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from fuzz.mutation import MAX_BYTES
from fuzz.targets import Target

Feed = Callable[[bytes], None]
ROUND = 1000  # examples that hypothesis is asked for at once


def by_mutation(target: Target, name: str, run_seed: int, first: int, count: int, feed: Feed) -> None:
    for number in range(first, first + count):
        feed(target.mutated(random.Random(f"{run_seed}/{name}/{number}")))


def by_hypothesis(target: Target, name: str, run_seed: int, first: int, count: int, feed: Feed) -> None:
    """Documents of the right shape with the wrong things in them."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from fuzz.documents import STRATEGIES

    fed = 0
    while fed < count:

        @seed(f"{run_seed}/{name}/{first + fed}")
        @settings(
            max_examples=min(ROUND, count - fed),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(STRATEGIES[name](target))
        def one(data: bytes) -> None:
            nonlocal fed
            if fed < count:
                feed(data)
                fed += 1

        one()


def by_atheris(target: Target, name: str, run_seed: int, first: int, count: int, feed: Feed) -> None:
    """libFuzzer, led by the coverage of edgeclip's own code. Ends the process."""
    import atheris

    corpus = Path(tempfile.mkdtemp(dir=target.state.parent / "corpus"))
    for number, data in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(data)
    # Crashes, hangs and memory are watched for by the parent, for every generator alike.
    options = ["-timeout=86400", "-rss_limit_mb=0", f"-max_len={MAX_BYTES}", "-verbosity=0", "-print_final_stats=0"]
    options += [f"-runs={count}", f"-seed={1 + hash_of(run_seed, name, first)}", f"-artifact_prefix={corpus}/"]
    atheris.Setup(["fuzz", *options, str(corpus)], feed)
    atheris.Fuzz()


def hash_of(run_seed: int, name: str, first: int) -> int:
    return random.Random(f"{run_seed}/{name}/{first}").randrange(1 << 31)


GENERATORS: dict[str, Callable[[Target, str, int, int, int, Feed], None]] = {
    "mutation": by_mutation,
    "hypothesis": by_hypothesis,
    "atheris": by_atheris,
}
