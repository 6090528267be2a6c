"""Bundle archives that must be refused, one for each way to harm a device. `python tests/hostile.py DIR` writes them.

Each is the tiny bundle (or one given) with one thing wrong; checksums are made to fit, so that nothing else is.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

Files = dict[str, bytes]
BLOCK = 512


def header(name: bytes, size: int | bytes, kind: bytes = b"0", link: bytes = b"", prefix: bytes = b"") -> bytes:
    """One ustar header with a checksum that fits, whatever the fields hold. size: bytes are put in as they are."""
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    plain = (
        name.ljust(100, b"\0")[:100]
        + b"0000644\0" * 3
        + field.ljust(12, b"\0")[:12]
        + b"00000000000\0"
        + b" " * 8
        + kind
        + link.ljust(100, b"\0")[:100]
        + b"ustar\x0000"
        + b"\0" * 80
        + prefix.ljust(155, b"\0")[:155]
        + b"\0" * 12
    )
    return plain[:148] + b"%06o\0 " % sum(plain) + plain[156:]


def member(name: bytes, content: bytes = b"", kind: bytes = b"0", **fields: bytes) -> bytes:
    return header(name, len(content), kind, **fields) + content + b"\0" * (-len(content) % BLOCK)


def archive(files: Files, *more: bytes, end: bytes = b"\0" * 2 * BLOCK) -> bytes:
    """more: raw members before the files."""
    return b"".join(more) + b"".join(member(name.encode(), data) for name, data in sorted(files.items())) + end


def summed(files: Files) -> Files:
    """With the SHA256SUMS that fits."""
    rest = {name: data for name, data in files.items() if name != "SHA256SUMS"}
    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(rest.items()))
    return {**rest, "SHA256SUMS": lines.encode()}


def manifest(files: Files, **changes: object) -> Files:
    facts = {**json.loads(files["manifest.json"]), **changes}
    return summed({**files, "manifest.json": json.dumps(facts).encode()})


def pax(name: str, value: str, kind: bytes = b"x") -> bytes:
    body = f" {name}={value}\n".encode()
    length = len(body) + len(str(len(body) + 3))
    return member(b"./PaxHeaders/x", str(length).encode() + body, kind)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def corpus(files: Files) -> Iterator[tuple[str, bytes]]:
    """(name, archive). files: of a good bundle."""
    good, engine = archive(files), "image.tflite"
    evil = b"* * * * * root id\n"

    def named(name: bytes) -> bytes:
        return archive(files, member(name, evil))

    def linked(kind: bytes, target: bytes) -> bytes:
        return archive(files, member(b"link.json", kind=kind, link=target))

    yield "absolute-path", named(b"/etc/cron.d/evil")
    yield "traversal", named(b"../../../../etc/cron.d/evil")
    yield "traversal-dot-slash", named(b"./../evil")
    yield "traversal-backslash", named(b"..\\evil")
    yield "traversal-prefix", archive(files, member(b"evil", evil, prefix=b"../.."))
    yield "nested-directory", archive(files, member(b"a/", kind=b"5"), member(b"a/evil", evil))
    yield "hidden-file", named(b".bashrc")
    yield "symlink-absolute", linked(b"2", b"/etc/shadow")
    yield "symlink-then-write", archive(files, member(b"d", kind=b"2", link=b"/tmp"), member(b"d/evil", evil))
    yield (
        "symlink-as-engine",
        archive(
            {name: data for name, data in files.items() if name != engine},
            member(engine.encode(), kind=b"2", link=b"/etc/hostname"),
        ),
    )
    yield "hardlink", linked(b"1", b"/etc/passwd")
    yield "character-device", archive(files, member(b"mem", kind=b"3"))
    yield "block-device", archive(files, member(b"sda", kind=b"4"))
    yield "fifo", archive(files, member(b"pipe", kind=b"6"))
    yield "contiguous-file", archive(files, member(b"evil", evil, b"7"))
    yield "unknown-kind", archive(files, member(b"evil", evil, b"Z"))
    yield "sparse-gnu", archive(files, member(b"evil", evil, b"S"))
    yield "sparse-pax", archive(files, pax("GNU.sparse.realsize", str(1 << 40)), member(b"evil", evil))
    yield "pax-path", archive(files, pax("path", "../../evil"), member(b"good", evil))
    yield "pax-size", archive(files, pax("size", str(1 << 60)), member(b"good", evil))
    yield "pax-linkpath", archive(files, pax("linkpath", "/etc/shadow"), member(b"good", kind=b"2", link=b"x"))
    yield "pax-global", archive(files, pax("path", "../evil", b"g"))
    yield "pax-in-pax", archive(files, pax("path", "a"), pax("path", "../evil"), member(b"good", evil))
    yield "pax-endless-number", archive(files, member(b"x", b"9" * 4000 + b" path=a\n", b"x"), member(b"good", evil))
    yield "gnu-long-name", archive(files, member(b"././@LongLink", b"../" * 40 + b"evil\0", b"L"), member(b"g", evil))
    yield "gnu-long-link", archive(files, member(b"././@LongLink", b"/etc/shadow\0", b"K"), member(b"g", kind=b"2"))
    yield "size-of-a-terabyte", archive(files, header(b"evil", b"7777777777777"[:12]))
    yield "size-binary-negative", archive(files, header(b"evil", b"\xff" * 12))
    yield "size-binary-huge", archive(files, header(b"evil", b"\x80" + b"\0" * 3 + b"\xff" * 8))
    yield "size-no-number", archive(files, header(b"evil", b"0x7fffffff\0\0"))
    yield "bomb-many-files", archive(files, *(member(b"f%d" % index) for index in range(300)))
    yield "bomb-gzip", gzip.compress(archive(summed({**files, "zeros": b"\0" * (32 << 20)})), 9, mtime=0)
    yield "bomb-manifest", archive(summed({**files, "manifest.json": b"[" * (2 << 20)}))
    yield "bomb-json-depth", archive(summed({**files, "manifest.json": b'{"schema":' + b"[" * 100_000}))
    yield "bomb-npz", archive(summed({**files, "golden.npz": npz_bomb()}))
    yield "bomb-frames", archive(manifest({**files, "frames.npz": npz_bomb()}, frames="frames.npz"))
    yield "frames-missing", archive(manifest(files, frames="frames.npz"))
    yield "bomb-signature", archive({**files, "SHA256SUMS." + "0" * 16 + ".sig": b"\0" * 100_000})
    yield "truncated-in-header", good[: BLOCK // 2]
    yield "truncated-in-file", good[: len(good) // 2]
    yield "truncated-before-end-mark", good[: -2 * BLOCK]
    yield "truncated-end-mark", good[:-BLOCK]
    yield "empty", b""
    yield "zeros", b"\0" * 20 * BLOCK
    yield "no-tar", b"MZ" + bytes(range(256)) * 40
    yield "bit-flip-in-header", flipped(good, 3)
    yield "bit-flip-in-file", flipped(good, good.index(files[engine]) + len(files[engine]) // 2)
    yield "bit-flip-in-sums", flipped(good, good.index(files["SHA256SUMS"]) + 5)
    yield "hidden-behind-end", good + member(b"evil", evil) + b"\0" * 2 * BLOCK
    yield "hidden-in-padding", hidden_in_padding(files)
    yield "duplicate-member", archive(files, member(engine.encode(), files[engine]))
    yield "case-collision", archive(summed({**files, engine.upper(): b"x"}))
    yield "name-not-utf-8", named(b"caf\xe9")
    yield "name-unicode-trick", named("manifest\u2024json".encode())
    yield "name-line-break", named(b"evil\nname")
    yield "name-empty", named(b"")
    yield "file-not-listed", archive(files, member(b"evil", evil))
    yield "file-missing", archive({name: data for name, data in files.items() if name != engine})
    yield "engine-missing", archive(summed({name: data for name, data in files.items() if name != engine}))
    yield "sums-listed-twice", archive({**files, "SHA256SUMS": files["SHA256SUMS"] * 2})
    yield "sums-with-path", archive({**files, "SHA256SUMS": files["SHA256SUMS"] + b"0" * 64 + b"  ../../etc/passwd\n"})
    yield "sums-missing", archive({name: data for name, data in files.items() if name != "SHA256SUMS"})
    yield "manifest-missing", archive(summed({name: data for name, data in files.items() if name != "manifest.json"}))
    yield "manifest-no-json", archive(summed({**files, "manifest.json": b"\xff\xfe{}"}))
    yield "schema-future", archive(manifest(files, schema=2))
    yield "schema-no-number", archive(manifest(files, schema=[1] * 1000))
    yield "field-unknown", archive(manifest(files, post_install="reboot"))
    yield "field-oversized-name", archive(manifest(files, name="x" * 4000))
    yield "field-name-with-path", archive(manifest(files, name="../../bin"))
    yield "field-oversized-dim", archive(manifest(files, dim=1 << 40))
    yield (
        "field-oversized-size",
        archive(manifest(files, preprocess={**_preprocess(files), "size": [1 << 30, 1 << 30]})),
    )
    yield (
        "field-engines-thousands",
        archive(manifest(files, engines=json.loads(files["manifest.json"])["engines"] * 500)),
    )
    yield "field-engine-outside", archive(manifest(files, golden="../golden.npz"))
    yield "space-malformed", archive(manifest(files, space="sha256:" + "z" * 64))
    yield "space-of-other-encoders", archive(summed({**files, "golden.npz": other_space(files["golden.npz"])}))
    yield "engine-is-garbage", archive(summed({**files, engine: b"TFL3" * 1000, "image.onnx": b"\0" * 100}))


def _preprocess(files: Files) -> dict[str, object]:
    facts: dict[str, object] = json.loads(files["manifest.json"])["preprocess"]
    return facts


def hidden_in_padding(files: Files) -> bytes:
    """Bytes that no digest covers, between a file's end and the next block."""
    data = archive(files)
    name = next(name for name, content in sorted(files.items()) if len(content) % BLOCK)
    end = data.index(files[name]) + len(files[name])
    return flipped(data, end)


def npz_bomb() -> bytes:
    """A hundred gigabytes of frames by its own account."""
    import numpy as np

    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|u1", "fortran_order": False, "shape": (100_000_000, 32, 32, 3)}
    )
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("frames.npy", stream.getvalue())
        packed.writestr("embeddings.npy", stream.getvalue())
    return out.getvalue()


def other_space(golden: bytes) -> bytes:
    """The golden frames with embeddings that another encoder gave them."""
    import numpy as np

    with np.load(io.BytesIO(golden)) as arrays:
        frames, embeddings = arrays["frames"], arrays["embeddings"]
    out = io.BytesIO()
    np.savez(out, frames=frames, embeddings=np.ascontiguousarray(np.roll(embeddings, 3, axis=1)))
    return out.getvalue()


def files_of(bundle: Path) -> Files:
    return {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()}


def write_corpus(folder: Path, files: Files) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, data in corpus(files):
        path = folder / f"{name}.tar"
        path.write_bytes(data)
        written.append(path)
    return written


def main(folder: str) -> None:
    from tiny_bundle import write_bundle

    with tempfile.TemporaryDirectory() as holder:
        written = write_corpus(Path(folder), files_of(write_bundle(Path(holder) / "tiny")))
    print(f"{len(written)} archives in {folder}")


if __name__ == "__main__":
    main(sys.argv[1])
