"""The IMDB data set (Large Movie Review Dataset v1.0): found where it is, or fetched, checked and unpacked safely."""

import hashlib
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from toolchain.errors import UsageError

URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
# Where torchtext's `datasets.IMDB.splits` looks: ROOT/imdb/aclImdb.
ROOT = Path(".data")

_BLOCK = 1 << 20


def is_imdb(folder: Path) -> bool:
    """Whether `folder` is laid out as the data set is: {train,test}/{neg,pos}/."""
    return all((folder / part / label).is_dir() for part in ("train", "test") for label in ("neg", "pos"))


def imdb_folder(
    root: Path = ROOT, url: str = URL, sha256: str = SHA256, say: Callable[[str], None] = lambda line: None
) -> Path:
    """The unpacked data set under `root`, downloaded first where it is not there.

    The archive is fetched over HTTPS, compared with its digest before a byte is unpacked, unpacked without links or
    paths that leave the folder, and renamed into place when it is whole. `say` is told before the download begins.
    Raises `UsageError` where the download fails, with the folder to put the data in.
    """
    folder = root / "imdb" / "aclImdb"
    if is_imdb(folder):
        return folder
    say(f"downloading IMDB (84 MB) from {url} to {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as room:
        archive = Path(room) / "aclImdb_v1.tar.gz"
        try:
            digest = _download(url, archive)
        except (urllib.error.URLError, OSError) as error:
            raise UsageError(
                f"cannot download IMDB from {url} ({getattr(error, 'reason', error)}). Without a network, put the "
                f"unpacked data in {folder}, or name it: --data PATH/aclImdb"
            ) from error
        if digest != sha256:
            raise UsageError(f"{url}: the download's SHA-256 is {digest}, expected {sha256}; nothing was unpacked")
        with tarfile.open(archive) as tar:
            tar.extractall(room, filter="data")
        if not is_imdb(Path(room) / "aclImdb"):
            raise UsageError(f"{url}: the archive does not hold aclImdb/{{train,test}}/{{neg,pos}}")
        (Path(room) / "aclImdb").replace(folder)
    return folder


def _download(url: str, target: Path) -> str:
    """Fetch `url` into `target` and give its SHA-256."""
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=60) as response, target.open("wb") as file:
        while block := response.read(_BLOCK):
            file.write(block)
            digest.update(block)
    return digest.hexdigest()
