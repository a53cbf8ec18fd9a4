"""ECHO on a stream: segment embeddings of a recording that arrives in pieces of any size."""

import torch
from torch import Tensor

from system.encoders.echo import Echo
from system.errors import WheeltapperError
from system.frontends.stft import frame_count, frame_sizes


class EchoStream:
    """Segment embeddings of a recording while it arrives; the same as ``Echo.segments`` of the whole.

    Tokens attend to the whole chunk that they belong to, 2000 frames (20 s) in published checkpoints: a chunk's
    segments come when its last sample has come, those of the rest at ``finish``. As in the authors' code the last
    chunk then is the last 2000 frames, so that it overlaps the one before.

    The authors subtract the mean of the whole recording, which a stream does not know before its end. Hence ``mean``:

    * a number, such as 0.0 for a sensor without an offset or one measured before: it is subtracted. Where it is the
      recording's mean, the segments equal mode ``official``; an offset that is left over reaches the two lowest bins
      of a frame and no others (Hann window).
    * None: every chunk loses its own mean. The segments equal mode ``stream``, which for a recording of up to 20 s is
      mode ``official``; for longer ones the means of chunk and recording differ.

    SimAM, where the encoder has it, looks at one chunk at a time.

    Memory: little more than the samples of one chunk, for however long a recording.

    Args:
        encoder: any ECHO. rate: Hz. mean: see above; a number or (B, 1).
    """

    def __init__(self, encoder: Echo, rate: int, mean: float | Tensor | None = None):
        self.encoder, self.rate, self.mean = encoder, rate, mean
        self.window, self.hop = frame_sizes(rate)
        self._span = encoder.chunk_samples(rate)
        # The last chunk may begin up to a hop before the last ``_span`` samples; the rest is room for new ones.
        self._kept = self._span + self.hop
        self._capacity = self._kept + self._span // 4 + 1
        self._reset()

    def _reset(self) -> None:
        # (B, capacity), holding the samples from ``_first`` to ``_count``; without columns before any came.
        self._buffer = torch.empty(0, 0)
        self._first = self._count = self._done = 0  # two sample numbers; frames in the chunks that are finished

    @torch.inference_mode()
    def feed(self, samples: Tensor) -> Tensor:
        """Takes the next samples (B, any number), full scale 1.

        Returns the segments of chunks that they complete, (B, patches, bands * D) in float32, often none.
        Raises WheeltapperError for another shape, or another B than before.
        """
        begun = self._buffer.shape[1] > 0
        if samples.dim() != 2 or (begun and len(samples) != len(self._buffer)):
            rows = len(self._buffer) if begun else "B"
            raise WheeltapperError(f"a stream's samples: expected ({rows}, number), found {tuple(samples.shape)}")
        if not begun:
            self._buffer = samples.new_empty(len(samples), self._capacity)
        segments = []
        while samples.shape[1]:
            held = self._make_room()
            needed = self._done * self.hop + self._span - self._count
            part, samples = samples.tensor_split([min(needed, self._capacity - held)], 1)
            self._buffer[:, held : held + part.shape[1]] = part
            self._count += part.shape[1]
            if part.shape[1] == needed:
                segments.append(self._segments(self._done, self._span))
                self._done += self.encoder.frame_limit
        return torch.cat(segments, 1) if segments else self._none()

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """Segments of what no finished chunk holds, (B, patches, bands * D); the stream then is ready for another
        recording. Raises WheeltapperError where nothing was fed."""
        if not self._buffer.shape[1]:
            raise WheeltapperError("a stream: expected samples before its end, found none")
        frames = frame_count(self._count, self.rate)
        if self._done and frames == self._done:
            rest = self._none()
        else:
            rest = self._segments(max(0, frames - self.encoder.frame_limit))
        self._reset()
        return rest

    def _make_room(self) -> int:
        """Samples in the buffer, after dropping old ones where it is full."""
        held = self._count - self._first
        if held < self._capacity:
            return held
        self._buffer[:, : self._kept] = self._buffer[:, held - self._kept : held].clone()
        self._first = self._count - self._kept
        return self._kept

    def _segments(self, frame: int, samples: int | None = None) -> Tensor:
        """Of the chunk that begins with a frame and has a number of samples, all that came where None."""
        start = frame * self.hop - self._first
        end = self._count - self._first if samples is None else start + samples
        chunk = self.encoder.chunk_spectrogram(self._buffer[:, start:end], self.rate, self.mean)
        return self.encoder.chunk_segments(chunk, self.rate)

    def _none(self) -> Tensor:
        return self._buffer.new_empty(len(self._buffer), 0, self.encoder.bands(self.rate) * self.encoder.dim)
