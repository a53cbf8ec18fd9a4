"""Lengths in the headers of sound files, which libsndfile believes where a recorder never wrote them.

Recorders that are cut off, and programs that write to a pipe, leave a placeholder where the length belongs: 0, about
2^31, about 2^32. Such a file is read to its end, with a note; what follows the samples (a LIST chunk) cannot be told
from samples then. A file that ends before the length in its header was cut and is refused, which libsndfile reads as a
shorter recording.
"""

import io
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from system.errors import WheeltapperError

MAX_CHUNKS = 10_000  # to read; real files have a few, zeros after a header look like one per 8 bytes
PLACEHOLDER = 1 << 16  # bytes around 2^31 and 2^32 in which a length is a placeholder: rounded, less or plus a header
AIFF_BEFORE, CAF_BEFORE = 8, 4  # bytes in front of the samples that their chunk counts
FLAC_TOTAL = 21  # position of the number of samples in a flac file
OGG_PAGE = 65_307  # bytes of the largest page
FORMAT = 16  # bytes of the shortest format chunk of a wav
MP3_FRAMES = 1000  # looked at for the bit rate: half a minute
MP3_KILOBITS = (  # a second, of versions 2 and 2.5, and of version 1
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
RATES = (10, 10_000_000)  # Hz; slow sensors give some tens of values a second, acoustic emission some millions
PLAIN = (1, 3, 0xFFFE)  # format tags of wav: integers, floating point, extensible

Patches = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True)
class Header:
    """What a header leaves to be said and mended.

    Args:
        note: what is doubtful about the length; empty for nothing.
        patches: offsets and bytes to be read there, in place of a missing length.
        counted: whether samples can only be counted by decoding them.
        total: of such a flac file, the byte that the number of samples begins in.
    """

    note: str = ""
    patches: Patches = ()
    counted: bool = False
    total: bytes = b""


class PatchedFile(io.FileIO):
    """An open file, to read, with other bytes in some places; it stays open where this one is closed."""

    def __init__(self, file: BinaryIO, patches: Patches) -> None:
        super().__init__(file.fileno(), closefd=False)
        self.name = ""  # soundfile takes what is named .raw for samples without a header
        self.patches = patches

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Reads into a buffer; returns the number of bytes."""
        start, count = self.tell(), super().readinto(buffer) or 0
        view = memoryview(buffer).cast("B")
        for offset, content in self.patches:
            for place, byte in enumerate(content, offset - start):
                if 0 <= place < count:
                    view[place] = byte
        return count

    def read(self, size: int | None = -1) -> bytes:
        """Up to ``size`` bytes, all that follow if it is negative."""
        wanted = os.fstat(self.fileno()).st_size - self.tell() if size is None or size < 0 else size
        buffer = bytearray(max(0, wanted))
        return bytes(buffer[: self.readinto(buffer)])


def check(path: Path, size: int, file: BinaryIO) -> Header:
    """Reads the header of a wav, rf64, bw64, w64, aiff, au, caf, flac, ogg or mp3 file.

    Args:
        path: its name, for messages.
        size: in bytes.
        file: opened to read, at its start.

    Raises:
        WheeltapperError: the file is shorter than its header says, or its format contradicts itself.
    """
    head = file.read(40)
    for magics, read in _READERS:
        if head.startswith(magics):
            return read(_Sound(path, size, file, head))
    return Header()


def check_rate(path: Path, rate: int) -> None:
    """Raises WheeltapperError for a sampling rate (Hz) that only a damaged header says."""
    if not RATES[0] <= rate <= RATES[1]:
        raise WheeltapperError(f"{path}: expected a sampling rate of {RATES[0]} to {RATES[1]:,} Hz, found {rate:,} Hz")


@dataclass(frozen=True)
class _Sound:
    """A file while its header is read; ``head`` are its first 40 bytes."""

    path: Path
    size: int
    file: BinaryIO
    head: bytes

    def unpack(self, form: str, position: int) -> tuple:
        """Numbers at a position, zeros behind the end."""
        self.file.seek(position)
        wanted = struct.calcsize(form)
        return struct.unpack(form, self.file.read(wanted).ljust(wanted, b"\0"))

    def chunks(self, position: int, form: str, alignment: int, counts_itself: bool = False) -> Iterator[tuple]:
        """Chunks (name, start of the content, its length, position of the chunk)."""
        inside = struct.calcsize(form)
        for _ in range(MAX_CHUNKS):
            if position + inside > self.size:
                return
            name, length = self.unpack(form, position)
            length -= inside if counts_itself else 0
            yield name, position + inside, length, position
            position += inside + max(0, length)
            position += -position % alignment

    def is_chain(self, position: int, form: str) -> bool:
        """Whether whole chunks with printable names follow, to the end of the file."""
        end = position
        for name, start, length, _ in self.chunks(position, form, 2):
            end = start + length
            if not name.isascii() or not name.decode().isprintable() or end > self.size:
                return False
        return end > position and self.size - end < 8

    def cut(self, promised: int) -> WheeltapperError:
        return WheeltapperError(
            f"{self.path}: truncated, the header promises {promised} bytes of file or more, found {self.size}"
        )


def _length(
    sound: _Sound, start: int, declared: int, bits: int, has_chunks: bool, frame: int, before: int = 0
) -> tuple[int, str]:
    """Bytes of samples from ``start``, and a note.

    Args:
        declared: the header's number of bytes, with ``bits`` bits; ``has_chunks``: whole chunks follow the samples.
        frame: bytes of one sample of all channels, 0 if unknown.
        before: bytes at the start that are no samples; a length that counts these alone is 0.

    Raises WheeltapperError for a file that was cut.
    """
    held = max(0, sound.size - start)
    placeholders = [abs(declared - (1 << power)) <= PLACEHOLDER for power in (31, 32, 63, 64)]
    unknown = (
        (0 <= declared <= before < held and not has_chunks) or declared < 0 or (declared > held and any(placeholders))
    )
    if declared > held and not unknown:
        raise sound.cut(start + declared)
    notes = []
    if unknown:
        written = f"0x{declared & (1 << bits) - 1:X}" if declared > before else "0"
        notes.append(f"the header does not say the length (it says {written}), read to the end of the file")
    length = held if unknown else declared
    if frame > 1 and length % frame:
        notes.append(f"a part of a sample at its end ({length % frame} of {frame} bytes) is left out")
    return length, "; ".join(notes)


def _read_riff(sound: _Sound) -> Header:
    """RIFF and RIFX (wav), RF64 and BW64 (wav of more than 4 GiB, whose length is in the chunk ds64)."""
    magic = sound.head[:4]
    if sound.head[8:12] != b"WAVE":
        return Header()
    order = ">" if magic == b"RIFX" else "<"
    form, long_place, frame = f"{order}4sI", 0, 0
    patches: list[tuple[int, bytes]] = [(0, b"RF64")] if magic == b"BW64" else []  # libsndfile knows the older name
    for name, start, declared, position in sound.chunks(12, form, 2):
        if name == b"ds64":
            long_place = start + 8
        elif name == b"fmt ":
            if start + FORMAT > sound.size:
                raise sound.cut(start + FORMAT)
            frame = _check_format(sound, sound.unpack(f"{order}HHIIHH", start))
        elif name == b"data":
            place, pack, bits = position + 4, f"{order}I", 32
            if magic in (b"RF64", b"BW64") and declared == 0xFFFFFFFF and long_place:
                place, pack, bits = long_place, f"{order}Q", 64
                (declared,) = sound.unpack(pack, place)
            length, note = _length(sound, start, declared, bits, sound.is_chain(start, form), frame)
            if length != declared:
                patches.append((place, struct.pack(pack, min(length, 0xFFFFFFFE) if bits == 32 else length)))
            elif behind := _bytes_behind(sound, start + length, form):
                note = "; ".join(filter(None, (note, f"{behind} bytes behind the samples are not read")))
            return Header(note, tuple(patches))
    return Header(patches=tuple(patches))


def _bytes_behind(sound: _Sound, end: int, form: str) -> int:
    """Bytes behind the samples that are neither chunks nor zeros: samples, where the header was not written again."""
    if sound.size - end < 8 or sound.is_chain(end, form) or sound.is_chain(end + end % 2, form):
        return 0
    sound.file.seek(end)
    return (sound.size - end) * any(sound.file.read(1 << 16))


def _check_format(sound: _Sound, fields: tuple) -> int:
    """Bytes of one sample of all channels; raises WheeltapperError if the format of a wav contradicts itself."""
    tag, channels, rate, _, block, bits = fields
    check_rate(sound.path, rate)
    if tag not in PLAIN or not channels or not bits:
        return block
    expected = channels * math.ceil(bits / 8)
    if block != expected:
        raise WheeltapperError(
            f"{sound.path}: expected {expected} bytes a sample for {channels} channel{'s' * (channels > 1)} of {bits} "
            f"bits, found a header with {block} (block align)"
        )
    return block


def _read_w64(sound: _Sound) -> Header:
    for name, start, declared, position in sound.chunks(40, "<16sQ", 8, counts_itself=True):
        if name.startswith(b"data"):
            length, note = _length(sound, start, max(0, declared), 64, False, 0)
            return Header(note, ((position + 16, struct.pack("<Q", length + 24)),) if length != declared else ())
    return Header()


def _read_aiff(sound: _Sound) -> Header:
    if sound.head[8:12] not in (b"AIFF", b"AIFC"):
        return Header()
    frames_place, frame = 0, 0
    for name, start, declared, position in sound.chunks(12, ">4sI", 2):
        if name == b"COMM":
            channels, _, bits = sound.unpack(">HIH", start)
            frames_place, frame = start + 2, channels * math.ceil(bits / 8)
        elif name == b"SSND":
            length, note = _length(
                sound, start, declared, 32, sound.is_chain(start + AIFF_BEFORE, ">4sI"), 0, AIFF_BEFORE
            )
            if length == declared:
                return Header(note)
            patches: Patches = ((position + 4, struct.pack(">I", min(length, 0xFFFFFFFE))),)
            if frames_place and frame:
                patches += ((frames_place, struct.pack(">I", min((length - 8) // frame, 0xFFFFFFFE))),)
            return Header(note, patches)
    return Header()


def _read_au(sound: _Sound) -> Header:
    order = ">" if sound.head.startswith(b".snd") else "<"
    start, declared = sound.unpack(f"{order}II", 4)
    length, note = _length(sound, start, declared, 32, False, 0)
    return Header(note, ((8, struct.pack(f"{order}I", min(length, 0xFFFFFFFE))),) if length != declared else ())


def _read_caf(sound: _Sound) -> Header:
    for name, start, declared, position in sound.chunks(8, ">4sq", 1):
        if name == b"data":
            length, note = _length(
                sound, start, declared, 64, sound.is_chain(start + CAF_BEFORE, ">4sq"), 0, CAF_BEFORE
            )
            return Header(note, ((position + 4, struct.pack(">q", length)),) if length != declared else ())
    return Header()


def _read_flac(sound: _Sound) -> Header:
    total = int.from_bytes(sound.head[FLAC_TOTAL : FLAC_TOTAL + 5]) & (1 << 36) - 1
    if total:
        return Header()  # samples that are missing are noticed when they are read
    note = "the header does not say the length (it says 0), read to the end of the file"
    return Header(note, counted=True, total=sound.head[FLAC_TOTAL : FLAC_TOTAL + 1])


def with_total(header: Header, samples: int) -> Header:
    """A header whose samples were counted: in flac their number has 36 bits, of which 4 share a byte with others."""
    if not header.total:
        return header
    first = header.total[0] & 0xF0 | samples >> 32
    return replace(header, patches=((FLAC_TOTAL, bytes([first]) + (samples & 0xFFFFFFFF).to_bytes(4)),))


def _read_ogg(sound: _Sound) -> Header:
    start = max(0, sound.size - 2 * OGG_PAGE)
    sound.file.seek(start)
    end = sound.file.read()
    page = end.rfind(b"OggS")
    table = end[page + 27 : page + 27 + end[page + 26]] if page >= 0 and page + 26 < len(end) else b""
    length = 27 + len(table) + sum(table)
    if not table or page + length > len(end):
        raise sound.cut(start + max(0, page) + length)
    if not end[page + 5] & 4:
        raise WheeltapperError(f"{sound.path}: truncated, expected a page marked as the last one, found none")
    return Header()


def _read_mp3(sound: _Sound) -> Header:
    """Refuses a variable bit rate without a table of its frames: libsndfile takes the first frame's for all."""
    position = 0
    if sound.head.startswith(b"ID3"):  # a tag, whose length has 7 bits a byte
        position = 10 + sum((byte & 127) << shift for byte, shift in zip(sound.head[6:10], (21, 14, 7, 0), strict=True))
    rates = set()
    for number in range(MP3_FRAMES):
        sound.file.seek(position)
        frame = sound.file.read(4)
        length = _mp3_frame(frame)
        if not length:
            break
        if number == 0 and any(name in sound.file.read(length) for name in (b"Xing", b"Info", b"VBRI")):
            return Header()
        rates.add(frame[2] >> 4)
        position += length
    if not rates:
        return Header()
    if len(rates) > 1:
        raise WheeltapperError(
            f"{sound.path}: expected an mp3 of constant bit rate or with a table of its frames, whose length is known; "
            "convert it to wav"
        )
    return Header(counted=True)  # libsndfile counts a tag as sound


def _mp3_frame(head: bytes) -> int:
    """Bytes of a frame of layer III from its first four; 0 if it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, rate, speed = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or rate in (0, 15) or speed == 3:
        return 0
    hertz = (44100, 48000, 32000)[speed] >> {3: 0, 2: 1, 0: 2}[version]
    kilobits = MP3_KILOBITS[version == 3][rate - 1]
    return (144 if version == 3 else 72) * 1000 * kilobits // hertz + (head[2] >> 1 & 1)


_READERS = (
    ((b"RIFF", b"RIFX", b"RF64", b"BW64"), _read_riff),
    (b"riff\x2e\x91\xcf\x11", _read_w64),
    (b"FORM", _read_aiff),
    ((b".snd", b"dns."), _read_au),
    (b"caff", _read_caf),
    (b"fLaC", _read_flac),
    (b"OggS", _read_ogg),
    ((b"ID3", b"\xff"), _read_mp3),
)
