"""What decoding alone costs: `python -m bench.bare VIDEO INTERVAL`, the fewest frames for a capture every so often.

FFmpeg's decoder is fed exactly the packets that `bench.minimum` counts, from memory, and its frames are dropped: no
planning, reading, conversion or encoding. Nothing that starts at keyframes and skips what nothing refers to can cost
less with this decoder. Prints one JSON object.
"""

import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from time import process_time

import av

from bench.minimum import Coded, needed, read, wanted
from worker.media.plan import Selection


def decode_bare(path: Path, coded: Coded, places: set[int]) -> tuple[int, float]:
    """Decode only the packets at some places; gives the frames and the CPU seconds of the decoder's calls."""
    frames, cpu_s = 0, 0.0
    with av.open(path) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.thread_count = 1
        packets = (packet for packet in container.demux(stream) if packet.size)
        for run in _runs(packets, coded, places):
            started = process_time()
            for packet in (*run, None):
                frames += len(context.decode(packet))
            context.flush_buffers()
            cpu_s += process_time() - started
    return frames, cpu_s


def _runs(packets: Iterator[av.Packet], coded: Coded, places: set[int]) -> Iterator[list[av.Packet]]:
    """Gather the packets that are needed from one start to the next that is decoded anew."""
    run: list[av.Packet] = []
    for place, (packet, picture) in enumerate(zip(packets, coded.pictures, strict=True)):
        if picture.start and run:
            yield run
            run = []
        if place in places:
            run.append(packet)
    if run:
        yield run


def main() -> None:
    """Measure once."""
    path, interval_s = Path(sys.argv[1]), Fraction(sys.argv[2])
    coded = read(path)
    places = needed(coded, wanted(coded, Selection(interval_s=interval_s)))
    frames, cpu_s = decode_bare(path, coded, places)
    print(json.dumps({"frames": frames, "of": len(coded.pictures), "cpu_s": round(cpu_s, 2)}))


if __name__ == "__main__":
    main()
