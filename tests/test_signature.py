from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgeclip.errors import BAD_DATA, CONFIGURATION, ConfigError, DataError
from edgeclip.install import Policy, check, export_bundle, sign_bundle
from edgeclip.signature import make_keys


@pytest.fixture
def bundle(tiny_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_path, tmp_path / "bundle"))


def trusting(folder: Path, *publics: Path) -> Policy:
    folder.mkdir(exist_ok=True)
    for public in publics:
        shutil.copy(public, folder)
    return Policy(folder, require_signature=True)


def test_what_a_trusted_key_signed_is_taken_as_directory_and_archive(bundle: Path, tmp_path: Path) -> None:
    public, key_id = make_keys(tmp_path / "site.pem")
    policy = trusting(tmp_path / "keys", public)
    with pytest.raises(DataError, match="is not signed, and require_signature is set"):
        check(bundle, policy)
    assert sign_bundle(bundle, tmp_path / "site.pem") == f"SHA256SUMS.{key_id}.sig"
    assert check(bundle, policy).signed.by == (f"site ({key_id})",)
    export_bundle(bundle, tmp_path / "bundle.tar")
    assert check(tmp_path / "bundle.tar", policy).signed.by == (f"site ({key_id})",)


def test_an_archive_is_signed_in_its_place(bundle: Path, tmp_path: Path) -> None:
    public, key_id = make_keys(tmp_path / "site.pem")
    archive = tmp_path / "bundle.tar"
    export_bundle(bundle, archive)
    sign_bundle(archive, tmp_path / "site.pem")
    sign_bundle(archive, tmp_path / "site.pem")  # Ed25519 gives the same signature again
    assert check(archive, trusting(tmp_path / "keys", public)).signed.by == (f"site ({key_id})",)


def test_every_file_is_covered(bundle: Path, tmp_path: Path) -> None:
    """An attacker makes SHA256SUMS fit; the signature does not then."""
    from edgeclip.bundle import CHECKSUMS, sha256

    public, _ = make_keys(tmp_path / "site.pem")
    name = sign_bundle(bundle, tmp_path / "site.pem")
    for path in sorted(bundle.iterdir()):
        if path.name in (CHECKSUMS, name, "manifest.json"):
            continue
        altered = Path(shutil.copytree(bundle, tmp_path / f"altered-{path.name}"))
        with (altered / path.name).open("ab") as stream:
            stream.write(b" ")
        sums = (altered / CHECKSUMS).read_text()
        (altered / CHECKSUMS).write_text(sums.replace(sha256(path), sha256(altered / path.name)))
        for required in (True, False):  # a bad signature of a trusted key is never taken
            policy = Policy(trusting(tmp_path / "keys", public).keys, required)
            with pytest.raises(DataError, match="it was altered after signing") as caught:
                check(altered, policy)
            assert caught.value.exit_code == BAD_DATA


def test_keys_are_rotated_by_signing_with_both(bundle: Path, tmp_path: Path) -> None:
    (old, _), (new, new_id) = make_keys(tmp_path / "old.pem"), make_keys(tmp_path / "new.pem")
    sign_bundle(bundle, tmp_path / "old.pem")
    sign_bundle(bundle, tmp_path / "new.pem")
    for publics in ((old,), (new,), (old, new)):
        keys = tmp_path / f"keys-{len(list(tmp_path.iterdir()))}"
        assert len(check(bundle, trusting(keys, *publics)).signed.by) == len(publics)
    assert check(bundle, trusting(tmp_path / "only-old", old)).signed.unknown == (new_id,)


def test_an_unknown_key_is_named(bundle: Path, tmp_path: Path) -> None:
    known, _ = make_keys(tmp_path / "known.pem")
    _, key_id = make_keys(tmp_path / "other.pem")
    sign_bundle(bundle, tmp_path / "other.pem")
    policy = trusting(tmp_path / "keys", known)
    with pytest.raises(DataError, match=f"signed by {key_id}, which is not trusted here"):
        check(bundle, policy)
    assert check(bundle, Policy(policy.keys)).signed.unknown == (key_id,)


def test_openssl_makes_keys_and_verifies(bundle: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    private, public = tmp_path / "o.pem", tmp_path / "o.pub.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    name = sign_bundle(bundle, private)
    assert check(bundle, trusting(tmp_path / "keys", public)).signed.by
    verify = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public]
    done = subprocess.run([*verify, "-sigfile", bundle / name, "-in", bundle / "SHA256SUMS"], check=False)
    assert done.returncode == 0


def test_the_private_key_is_its_owner_s_alone_and_never_written_over(tmp_path: Path) -> None:
    make_keys(tmp_path / "site.pem")
    assert (tmp_path / "site.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="never written over"):
        make_keys(tmp_path / "site.pem")


def test_a_file_that_is_no_key_is_named(bundle: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    with pytest.raises(ConfigError, match="there is no key in"):
        check(bundle, Policy(keys, require_signature=True))
    (keys / "broken.pem").write_text("not a key")
    with pytest.raises(ConfigError, match=r"broken\.pem is no public key") as caught:
        check(bundle, Policy(keys, require_signature=True))
    assert caught.value.exit_code == CONFIGURATION
    with pytest.raises(ConfigError, match="is no private key"):
        sign_bundle(bundle, keys / "broken.pem")
