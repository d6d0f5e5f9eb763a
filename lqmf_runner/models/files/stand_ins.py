"""Files in place of weights: the remains of a broken download, or of a clone without Git LFS."""

from __future__ import annotations

from pathlib import Path

HEAD_BYTES = 64
_LFS = b"version https://git-lfs.github.com/spec/"
_WEB_PAGE = (b"<!doctype html", b"<html")


def what_instead(head: bytes) -> str:
    """What a file that should hold weights or a tokenizer is, by its first bytes; empty if unknown."""
    if head.startswith(_LFS):
        return "only a Git LFS pointer to the file; get the file itself with: git lfs pull"
    if head.lstrip().lower().startswith(_WEB_PAGE):
        return "a web page; the download was answered with an error or a login"
    return ""


def file_instead(path: Path) -> str:
    """As `what_instead`, of a file; empty for one that is not there."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return what_instead(stream.read(HEAD_BYTES))
