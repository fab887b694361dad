"""Gives a model of random weights the vocabulary and the chat template of another one.

`hearth-engine make-model` writes a model whose every byte is a token and that knows no
tools, so that prompts would be several times as long as with a real one, and lack them.

usage: words.py RANDOM.gguf WORDS.gguf OUT.gguf
"""

from pathlib import Path
import shutil
import struct
import sys
from typing import BinaryIO

ALIGNMENT = 32
STRING, ARRAY = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
# The type of a normal token: no control token, written unchanged.
NORMAL = 1


class Header:
    """The header of a GGUF file: keys with their values as bytes, and tensors."""

    def __init__(self, file: BinaryIO) -> None:
        """Read it, up to where the tensors' numbers begin."""
        self._file = file
        assert file.read(4) == b"GGUF"
        _, self.tensors, number = struct.unpack("<IQQ", file.read(20))
        self.values: dict[str, bytes] = {}
        for _ in range(number):
            key = self._text().decode()
            begin = file.tell()
            (kind,) = struct.unpack("<I", file.read(4))
            self._skip(kind)
            end = file.tell()
            file.seek(begin)
            self.values[key] = file.read(end - begin)
        begin = file.tell()
        for _ in range(self.tensors):
            self._text()
            (dimensions,) = struct.unpack("<I", file.read(4))
            file.seek(8 * dimensions + 4 + 8, 1)
        end = file.tell()
        file.seek(begin)
        self.infos = file.read(end - begin)
        file.seek(-end % ALIGNMENT, 1)

    def _text(self) -> bytes:
        (length,) = struct.unpack("<Q", self._file.read(8))
        return self._file.read(length)

    def _skip(self, kind: int) -> None:
        if kind == STRING:
            self._text()
        elif kind == ARRAY:
            inner, number = struct.unpack("<IQ", self._file.read(12))
            if inner == STRING:
                for _ in range(number):
                    self._text()
            else:
                self._file.seek(number * SIZES[inner], 1)
        else:
            self._file.seek(SIZES[kind], 1)

    def number_of(self, key: str) -> int:
        """Return the number of items in an array."""
        return struct.unpack_from("<Q", self.values[key], 8)[0]


def text(value: str) -> bytes:
    """Return a string in GGUF's encoding."""
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def give(shape: Path, words: Path, out: Path) -> None:
    """Write the first model with the vocabulary of the second."""
    with words.open("rb") as file:
        taught = Header(file)
        known = taught.values
    with shape.open("rb") as file, out.open("wb") as to:
        header = Header(file)
        tokens, kinds = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
        size, more = header.number_of(tokens), taught.number_of(tokens)
        values = {k: v for k, v in header.values.items() if not k.startswith("tokenizer.")}
        values |= {k: v for k, v in known.items() if k.startswith("tokenizer.")}
        # The vocabulary keeps the size of its matrix.
        filler = b"".join(text(f"\u0120w{n}") for n in range(more, size))
        values[tokens] = (
            struct.pack("<IIQ", ARRAY, STRING, size) + known[tokens][16:] + filler
        )
        (inner,) = struct.unpack_from("<I", known[kinds], 4)
        values[kinds] = (
            struct.pack("<IIQ", ARRAY, inner, size)
            + known[kinds][16:]
            + struct.pack("<I", NORMAL) * (size - more)
        )
        to.write(b"GGUF" + struct.pack("<IQQ", 3, header.tensors, len(values)))
        for key, value in values.items():
            to.write(text(key) + value)
        to.write(header.infos)
        to.write(bytes(-to.tell() % ALIGNMENT))
        shutil.copyfileobj(file, to)


if __name__ == "__main__":
    give(*map(Path, sys.argv[1:]))
