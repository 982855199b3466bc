"""The corpora of the paper, and the metadata in the path of a clip: its corpus, system, domain and group.

AES (Tjandra et al., arXiv 2502.05139) rated clips of six corpora and of PAM; AudioMOS Challenge 2025 Track 2 split the
six and added a test set; MMMOS merged the six and PAM. All were rated in the same way, so their rows form one set.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from mmmos.data.manifest import LabelledClip

PamSystem = Literal["kind_folder", "folder"]
"""How a system of PAM is named: `music/real`, or `real`, which is then one system for music and sounds."""


@dataclass(frozen=True)
class Source:
    """A corpus: the number of its clips in each list, and where to obtain them."""

    train: int  # clips in combined_train
    dev: int  # clips in combined_dev
    test: int  # clips in track2_test
    domain: str  # "" if it depends on the clip's path
    title: str
    home: str
    terms: str


@dataclass(frozen=True)
class ClipMetadata:
    """The metadata in the path of a clip."""

    source: str  # key of SOURCES
    system: str = ""
    domain: str = ""
    group: str = ""  # a split must not divide it


def metadata_from_path(path: str, pam_system: PamSystem = "kind_folder") -> ClipMetadata | None:
    """The metadata in the path of a clip below the data root; None if no corpus has it.

    A group is a song, a speaker, a YouTube video (of AudioSet, of MusicCaps, or of PAM's music, which was generated
    from captions of such videos), or a prompt of PAM. Common Voice does not name its speakers.

    >>> metadata_from_path("MUSDB18/test/AM Contra - Heart Peripheral/bass.wav")
    ClipMetadata(source='MUSDB18', system='', domain='music', group='MUSDB18/AM Contra - Heart Peripheral')
    >>> metadata_from_path("PAM/human_eval/music/real/-0vPFx-wRRI.wav")
    ClipMetadata(source='PAM', system='music/real', domain='music', group='youtube/-0vPFx-wRRI')
    """
    parts = PurePosixPath(path).parts or ("",)
    stem = os.path.splitext(parts[-1])[0]
    if test := _TEST_ID.fullmatch(stem):
        return ClipMetadata(TEST, test["system"])
    source = parts[0]
    if source not in SOURCES:
        return None
    system, domain, group = "", SOURCES[source].domain, ""
    match parts:
        case ("PAM", _, kind, folder, _):
            system = f"{kind}/{folder}" if pam_system == "kind_folder" else folder
            domain = "music" if kind == "music" else "sound"
            group = f"youtube/{stem}" if kind == "music" else f"PAM/{kind}/{stem}"
        case ("unbalanced_train_segments", *_, _):  # <id>_<start>_<end in ms>
            group = f"youtube/{stem.rsplit('_', 2)[0]}"
        case ("musiccaps", _):
            group = f"youtube/{stem}"
        case ("MUSDB18", _, song, _) | ("LibriTTS", _, song, *_) | ("EARS", song, _):
            group = f"{source}/{song}"
    return ClipMetadata(source, system, domain, group)


def is_suspect(row: LabelledClip) -> bool:
    """Whether a row's labels are likely those of other clips.

    Eleven songs of MUSDB18, all by Music Delta, have ratings that are typical of speech: their full mixtures have a
    production complexity of 1.2 to 2.0, and all other mixtures 4.8 or more. The same holds for their stems.
    """
    return row.group in _SUSPECT_GROUPS


TEST = "audiomos2025_track2_test"
"""The test set's key in `SOURCES`, and its folder."""

SOURCES = {
    "unbalanced_train_segments": Source(
        *(900, 100, 0, "sound", "AudioSet", "https://research.google.com/audioset/"),
        "list CC BY 4.0; the sound is on YouTube, each video with terms of its own, and some are gone",
    ),
    "musiccaps": Source(
        *(496, 53, 0, "music", "MusicCaps", "https://www.kaggle.com/datasets/googleai/musiccaps"),
        "list CC BY-SA 4.0; the music is on YouTube, each video with terms of its own, and some are gone",
    ),
    "MUSDB18": Source(
        *(404, 47, 0, "music", "MUSDB18", "https://sigsep.github.io/datasets/musdb.html"),
        "academic use only; MUSDB18-HQ has the listed .wav files, MUSDB18 one .stem.mp4 per song",
    ),
    "EARS": Source(141, 9, 0, "speech", "EARS", "https://github.com/facebookresearch/ears_dataset", "CC BY-NC 4.0"),
    "LibriTTS": Source(283, 17, 0, "speech", "LibriTTS", "https://www.openslr.org/60/", "CC BY 4.0"),
    "cv-corpus-13.0-2023-03-09": Source(
        *(476, 24, 0, "speech", "Common Voice 13.0, English", "https://commonvoice.mozilla.org/en/datasets", "CC0")
    ),
    "PAM": Source(800, 200, 0, "", "PAM", "https://zenodo.org/records/10737388", "on the terms of that record"),
    TEST: Source(
        *(0, 0, 3060, "", "AudioMOS Challenge 2025 Track 2, test set"),
        "https://sites.google.com/view/voicemos-challenge/audiomos-challenge-2025",
        "from the organisers of the challenge",
    ),
}
"""Folder below the data root -> corpus."""

SUSPECT_SONGS = (
    *("80s Rock", "Beatles", "Britpop", "Country1", "Country2", "Grunge", "Hendrix", "Punk", "Reggae", "Rock"),
    "Rockabilly",
)
"""Eleven of the thirteen songs of Music Delta; the labels of Disco and Gospel look normal."""

_SUSPECT_GROUPS = frozenset(f"MUSDB18/Music Delta - {song}" for song in SUSPECT_SONGS)
_TEST_ID = re.compile(r"audiomos2025-track2-sys(?P<system>[A-Za-z0-9]{5})-utt[A-Za-z0-9]{6}")
