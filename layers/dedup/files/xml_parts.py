"""Reads XML of any size in pieces, with a bound on what the parser holds."""

from collections.abc import Callable, Iterator, MutableSequence
from xml.parsers import expat

from dedup.files.compression import Stream
from dedup.files.tables import MAX_ROW, Unreadable

_PIECE = 1 << 16
_MAX_TOKEN = 4 * MAX_ROW
"""Most bytes of one tag, and most characters of one text."""

Attributes = dict[str, str]


def parsed(
    stream: Stream,
    start: Callable[[str, Attributes], None],
    end: Callable[[str], None],
    text: MutableSequence[str],
) -> Iterator[None]:
    """Parses the document, and yields after each piece of it.

    Names are passed to `start` and `end` without namespaces, which differ between versions of a format and may have any
    prefix. Text is appended to `text`, which the callbacks clear. Raises Unreadable if the document is not valid, has a
    document type (the formats have none, and it can define entities), or a tag or text that is too long."""
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start_root(name: str, attributes: Attributes) -> None:
        # Excel's own names have no prefix, and a call less for each tag saves a tenth of the time.
        if ":" in name:
            parser.StartElementHandler = lambda name, attributes: start(name[name.find(":") + 1 :], attributes)
            parser.EndElementHandler = lambda name: end(name[name.find(":") + 1 :])
        else:
            parser.StartElementHandler, parser.EndElementHandler = start, end
        parser.StartElementHandler(name, attributes)

    parser.StartElementHandler = start_root
    parser.CharacterDataHandler = text.append
    parser.StartDoctypeDeclHandler = _refuse_document_type
    fed = 0
    try:
        while piece := stream.read(_PIECE):
            parser.Parse(piece, False)
            fed += len(piece)
            if fed - parser.CurrentByteIndex > _MAX_TOKEN or sum(map(len, text)) > _MAX_TOKEN:
                raise Unreadable("The workbook has a cell that is too long")
            yield
        parser.Parse(b"", True)
    # The last two are raised for an encoding that does not exist, or that expat cannot read.
    except (expat.ExpatError, LookupError, ValueError):
        raise Unreadable("The workbook is damaged: its XML is not valid") from None
    yield


def _refuse_document_type(*_: object) -> None:
    raise Unreadable("The workbook is damaged: its XML has a document type")
