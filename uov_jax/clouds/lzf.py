"""LZF, the compression of PCD files: runs of plain bytes, and bytes repeated from before."""

from __future__ import annotations


def decompress_lzf(content: bytes, size: int) -> bytes:
    """The `size` bytes that were compressed.

    Facts of the format: liblzf's `lzf_d.c`. A byte below 32 says how many plain bytes follow, less
    one. Any other has the length of a repetition in its upper three bits (7: what the next byte
    says more), less two, and in its lower five and the next byte how far back it begins, less one.

    Raises:
        ValueError: it is damaged, or makes another number of bytes.

    """
    found = bytearray()
    place, end = 0, len(content)
    while place < end:
        control = content[place]
        place += 1
        if control < 32:
            found += content[place : place + control + 1]
            place += control + 1
            continue
        length = control >> 5
        if length == 7 and place < end:
            length += content[place]
            place += 1
        if place >= end:
            break
        start = len(found) - ((control & 31) << 8) - content[place] - 1
        place += 1
        length += 2
        if start < 0:
            raise ValueError("a repetition of bytes before the first")
        if len(found) + length > size:
            break
        piece = found[start : start + length]
        while len(piece) < length:  # It runs into what it makes.
            piece += piece[: length - len(piece)]
        found += piece
    if place != end or len(found) != size:
        raise ValueError(f"the compressed bytes make {len(found):,}, expected {size:,}")
    return bytes(found)
