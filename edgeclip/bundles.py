"""What `edgeclip bundle ...` does: each function returns what `--json` prints, and the same as lines for people."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeclip.bundle import STORED
from edgeclip.config import load_settings
from edgeclip.errors import OK, ConfigError, DataError, EdgeclipError, UsageError
from edgeclip.install import Checked, Policy, check, export_bundle, install, sign_bundle
from edgeclip.selftest import Limits, self_test
from edgeclip.signature import Signed, make_keys
from edgeclip.state import SERVICE, store_path
from edgeclip.store import CURRENT, Store

CONFIG = Path("/etc/edgeclip/edgeclip.yaml")
Told = tuple[Any, list[str]]


def policy(config: str | None, new_space: bool = False, **flags: Any) -> Policy:
    """From flags, environment, and the device's configuration file. Raises ConfigError."""
    settings = load_settings(("keys", "require_signature"), flags, os.environ, _config_path(config))
    return Policy(Path(settings.keys), settings.require_signature, new_space)


def _config_path(config: str | None = None) -> str | None:
    return config or os.environ.get("EDGECLIP_CONFIG") or (str(CONFIG) if CONFIG.is_file() else None)


def taken(into: Store, config: str | None = None) -> str:
    """How a service comes to the bundle that was put in force; or why it does not: its configuration names another."""
    path = _config_path(config)
    try:
        named = load_settings(("bundle",), {}, os.environ, path).bundle
    except ConfigError as error:  # what was done is done all the same
        return f"a service takes it once its configuration is mended: {error}"
    if named is not None and (named == STORED or Path(named).absolute() == (into.path / CURRENT).absolute()):
        return "a service takes it at `systemctl reload edgeclip`"
    return f"a service takes it once {path or 'its configuration'} says `bundle: {STORED}`, which it does not"


def opened(store: str | None) -> Store:
    return Store(Path(store) if store else store_path())


def verify_bundle(bundle: str = STORED, store: str | None = None, config: str | None = None, **flags: Any) -> Told:
    """bundle: a path, or a name in the store."""
    checked = check(_found(bundle, opened(store)), policy(config, **flags))
    facts = _facts(checked)
    return facts, [f"{bundle}: {facts['id']}, {facts['files']} files match, {signers(checked.signed)}"]


def install_bundles(
    bundle: Sequence[str],
    complain: Callable[[EdgeclipError], object],
    store: str | None = None,
    config: str | None = None,
    new_space: bool = False,
    test_timeout: float | None = None,
    test_memory: int | None = None,
    **flags: Any,
) -> tuple[Any, list[str], int]:
    """Each in turn; the exit code is the first refusal's."""
    asked, into, code = policy(config, new_space, **flags), opened(store), OK
    given = {"timeout_s": test_timeout, "memory_mb": test_memory}
    limits = Limits(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    outcomes, lines = [], []
    for path in bundle:
        try:
            done = install(Path(path), into, asked, lambda fresh: self_test(fresh, limits))
        except EdgeclipError as error:
            complain(error)
            outcomes.append({"file": path, "installed": False, "error": error.message, "fix": error.hint})
            code = code or error.exit_code
            continue
        facts, tested = _facts(done.checked), done.tested
        outcomes.append(
            {"file": path, "installed": True, "name": done.name, "changed": tested is not None, **facts}
            | {"self_test": msgspec.to_builtins(tested)}
        )
        if tested is None:
            lines.append(f"{done.name}: is in force already")
        else:
            lines.append(
                f"{done.name}: installed, {signers(done.checked.signed)}; {tested.frames} golden frames pass on "
                f"{tested.runtime} ({tested.seconds:.1f} s, {tested.peak_mb} MB); {taken(into, config)}"
            )
    return outcomes, lines, code


def list_bundles(store: str | None = None) -> Told:
    into = opened(store)
    found, state = into.listed(), into.state()
    lines = [] if found else [f"{into.path}: no bundle is installed{_elsewhere(store)}"]
    for one in found:
        mark = "*" if one.current else "<" if one.previous else " "
        starts = f", start {one.starts}" if one.starts else ""
        age = "" if one.age_p99_ms is None else f", frame age p99 {one.age_p99_ms:.0f} ms"
        why = f": {one.why}" if one.why else ""
        lines.append(f"{mark} {one.name}  {one.bytes / 1e6:.1f} MB  {one.status}{starts}{age}{why}")
    facts = {
        "store": str(into.path),
        "current": into.target(CURRENT),
        "bundles": [msgspec.to_builtins(one) for one in found],
        "events": msgspec.to_builtins(state.events),
    }
    return facts, lines


def roll_back(store: str | None = None, left: str | None = None) -> Told:
    """left: only where this one is in force; else nothing is done."""
    into = opened(store)
    with into.locked():
        into.settle()
        current = into.target(CURRENT)
        if left is not None and left != current:
            facts = {"from": None, "to": current, "changed": False}
            return facts, [f"{left}: is not in force; {current or 'none'} is, as before"]
        old, new = into.roll_back()
    return (
        {"from": old, "to": new, "changed": True},
        [f"{new}: is in force again, in the place of {old}; {taken(into)}"],
    )


def confirm(store: str | None = None) -> Told:
    into = opened(store)
    with into.locked():
        name = into.target(CURRENT)
        if name is None:
            raise UsageError(f"{into.path} has no bundle in force", "install one: edgeclip bundle install FILE")
        confirmed = into.confirm(name)
    return {"bundle": name, "confirmed": confirmed}, [f"{name}: {'is trusted' if confirmed else 'was trusted already'}"]


def remove(name: Sequence[str], store: str | None = None) -> Told:
    into = opened(store)
    for one in name:
        with into.locked():
            into.remove(one)
    return list(name), [f"{one}: removed" for one in name]


def export(out: str, bundle: str = STORED, store: str | None = None) -> Told:
    """bundle: a name in the store, or a path."""
    changed = export_bundle(_found(bundle, opened(store)), Path(out))
    return {"out": out, "changed": changed}, [f"{out}: {'written' if changed else 'was up to date'}"]


def _found(bundle: str, into: Store) -> Path:
    """Raises DataError where `bundle` is neither a name in the store nor a path."""
    installed = into.path / bundle
    if installed.is_dir():
        return installed.resolve()
    if not Path(bundle).exists():
        what = "no bundle is in force" if bundle == STORED else f"{bundle} is no file, nor the name of a bundle"
        raise DataError(f"{what} in {into.path}", "see `edgeclip bundle list`")
    return Path(bundle)


def _elsewhere(store: str | None) -> str:
    """Who is not root may not see the service's bundles, and is told where they are."""
    theirs = SERVICE / "bundles"
    if store is not None or not SERVICE.is_dir() or store_path() == theirs:
        return ""
    return f"; those of the service are in {theirs}: sudo edgeclip bundle list"


def sign(bundle: Sequence[str], key: str) -> Told:
    made = {path: sign_bundle(Path(path), Path(key)) for path in bundle}
    return made, [f"{path}: signed, {name}" for path, name in made.items()]


def keygen(out: str) -> Told:
    public, key_id = make_keys(Path(out))
    return (
        {"private": out, "public": str(public), "key_id": key_id},
        [f"{out}: private key {key_id}, to be kept secret", f"{public}: for {Policy.keys} on the devices"],
    )


def _facts(checked: Checked) -> dict[str, Any]:
    return {
        "id": checked.id,
        "bundle": checked.manifest.name,
        "space": checked.manifest.space,
        "files": len(checked.digests) - 1,
        "bytes": sum(checked.container.files.values()),
        "signed_by": list(checked.signed.by),
        "unknown_keys": list(checked.signed.unknown),
    }


def signers(signed: Signed) -> str:
    """In words."""
    if signed.by:
        return f"signed by {', '.join(signed.by)}"
    return f"signed by unknown keys {', '.join(signed.unknown)}" if signed.unknown else "not signed"


ACTIONS: dict[str, Callable[..., Told]] = {
    "verify": verify_bundle,
    "list": list_bundles,
    "rollback": roll_back,
    "confirm": confirm,
    "remove": remove,
    "export": export,
    "sign": sign,
    "keygen": keygen,
}
