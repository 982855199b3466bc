"""Every code that a row may have is explained in a sentence."""

from __future__ import annotations

import re
from pathlib import Path

import mmmos.audio
import mmmos.audio.warnings
from mmmos.errors import AUDIO_ERROR_CODES
from mmmos.report.phrases import AXIS_MEANINGS, BASIS_PHRASES, ERROR_PHRASES, WARNING_PHRASES
from mmmos.scores import BASES, SHOWN


def test_phrases_cover_every_code():
    assert list(WARNING_PHRASES) == list(mmmos.audio.warnings.WARNINGS)
    assert list(ERROR_PHRASES) == list(AUDIO_ERROR_CODES)
    assert list(BASIS_PHRASES) == list(BASES)
    assert tuple(AXIS_MEANINGS) == SHOWN


def test_phrases_are_whole_sentences():
    for text in (*WARNING_PHRASES.values(), *ERROR_PHRASES.values(), *AXIS_MEANINGS.values()):
        assert re.fullmatch(r"[A-Z][^\n]*[.?]", text)


def test_warnings_of_the_code_are_all_explained():
    source = Path(mmmos.audio.__path__[0])
    added = {name for path in source.glob("*.py") for name in re.findall(r'warnings\.add\("(\w+)"\)', path.read_text())}
    assert added <= set(WARNING_PHRASES)
    assert len(added) > 3
