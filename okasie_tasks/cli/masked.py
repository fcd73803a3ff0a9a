"""What a command prints goes through the mask too: a plugin may print what it likes in this process."""

from __future__ import annotations

from typing import Any, TextIO

from okasie_tasks.masking import mask


class MaskedStream:
    """A text stream without the secrets that this process knows; in all else the stream that it stands for."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(mask(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
