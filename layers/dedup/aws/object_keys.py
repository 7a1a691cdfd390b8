"""The keys of the bucket, and what the key and metadata of an uploaded file state."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header

from dedup.file_options import FileOptions
from dedup.settings import settings

INCOMING = "incoming/"
REJECTED = "rejected/"

FOLDERS = {"replace": "snapshot", "upsert": "upsert"}
"""The folder below that of the source, by the mode of the files in it. Files in other folders are added."""

_MODES = ("add", *FOLDERS)
_EFFECTS = {"replace": "replace the source's records", "upsert": "add and update records"}
_ALIKE = {spelling: mode for mode, folder in FOLDERS.items() for spelling in (folder, f"{folder}s")}
"""The mode whose folder is meant, by other names that a folder may have, in lower case."""


@dataclass(frozen=True)
class Folder:
    """What a key and the object's metadata state: the source of the records, None if each row names its own, and the
    mode: add, replace or upsert."""

    source: str | None
    mode: str


class WrongFolder(ValueError):
    """A key or metadata that is not valid. The text says what was expected."""


def folder_of(key: str, metadata: Mapping[str, str]) -> Folder:
    """The source and mode of a key `incoming/<source>/[snapshot/|upsert/]…` with the metadata `source` and `mode`.
    Raises WrongFolder.

    Only the folder makes a file a snapshot or an upsert: policies restrict who may write to folders, but not the
    metadata. Policies are case-sensitive, so that a folder like `Snapshot` is refused. Read as additions, its records
    would be stored twice."""
    *folders, name = key.removeprefix(INCOMING).split("/")
    source = metadata.get("source") or (folders[0] if folders else None)
    mode = next((mode for mode, folder in FOLDERS.items() if folders[1:2] == [folder]), "add")
    if source is not None and source not in settings().sources:
        known = ", ".join(settings().sources)
        # The text is stored and sent in events. A folder may be named after a person, so that only valid names of a
        # source are quoted.
        named = repr(source) if re.fullmatch("[a-z][a-z0-9_]{0,62}", source) else "The name of the folder"
        raise WrongFolder(f"{named} is not a source: expected {INCOMING}<source>/… with one of {known}")
    stated = metadata.get("mode", mode)
    if stated not in _MODES:
        raise WrongFolder(f"{stated!r} is not a mode: expected add, replace or upsert")
    places = {mode: f"{INCOMING}{source or '<source>'}/{folder}/" for mode, folder in FOLDERS.items()}
    if mode in FOLDERS and folders[0] != source:
        raise WrongFolder(f"{_noun(mode)} of {source} belongs in {places[mode]}: move the file there")
    if stated != mode:
        special = stated if stated in FOLDERS else mode
        raise WrongFolder(
            f"The metadata says {stated}, and the folder says {mode}. {_noun(special)} belongs in {places[special]}, "
            f"and a file that adds records in another folder"
        )
    # The first folder is not checked if it is the source: a source may be called snapshot or upsert.
    parts = [*(folders[1:] if folders[:1] == [source] else folders), name] if mode == "add" else []
    for part in parts:
        meant = _ALIKE.get(part.strip().casefold())
        if meant:
            raise WrongFolder(
                f"{part!r} is not the folder of {FOLDERS[meant]}s. To {_EFFECTS[meant]}, move the file to "
                f"{places[meant]}; to add records, to a folder with another name"
            )
    return Folder(source, mode)


def _noun(mode: str) -> str:
    return f"{'An' if mode == 'upsert' else 'A'} {FOLDERS[mode]}"


def options_of(metadata: Mapping[str, str]) -> FileOptions:
    """The options that an object's metadata `sheet` and `strict` state. Raises WrongFolder."""
    return FileOptions(_decoded(metadata.get("sheet")), _is_true("strict", metadata))


def is_dry_run(metadata: Mapping[str, str]) -> bool:
    """Whether an object's metadata `dry_run` asks for a preview. Raises WrongFolder."""
    return _is_true("dry_run", metadata)


def _is_true(name: str, metadata: Mapping[str, str]) -> bool:
    value = metadata.get(name, "false").strip().lower()
    if value not in ("true", "false"):
        raise WrongFolder(f"The metadata {name} is neither true nor false")
    return value == "true"


def _decoded(name: str | None) -> str | None:
    """A name in an object's metadata. S3 encodes names beyond ASCII by RFC 2047."""
    try:
        return str(make_header(decode_header(name))) if name else None
    except (HeaderParseError, LookupError, UnicodeDecodeError):
        return name


def key_for(filename: str, folder: Folder) -> str:
    """The key of an expected upload, with `{}` in place of its id."""
    folders = [folder.source, FOLDERS.get(folder.mode)]
    name = filename.replace("{", "(").replace("}", ")")
    return INCOMING + "".join(f"{folder}/" for folder in folders if folder) + "{}-" + name


def rejected_key_of(upload_id: int) -> str:
    """The key of the rejected rows of an upload. It does not contain the file's name, which may be a person's."""
    return f"{REJECTED}upload-{upload_id}-rejected.csv"
