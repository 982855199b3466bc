"""What axes, warnings, errors and evidence mean, in sentences for people who have not read the documentation."""

from __future__ import annotations

AXIS_MEANINGS = {
    "PQ": "How clean and well made the recording is: noise, distortion, bandwidth, balance.",
    "PC": "How many voices, instruments and sounds are in it. More is not better.",
    "CE": "How much listeners enjoy it: expression, artistry, pleasantness.",
    "CU": "How useful it would be as material for making something new.",
}
"""What an axis rates, in the order `SHOWN`; after the instructions of the raters of Audiobox Aesthetics."""

WARNING_PHRASES = {
    "silent": "The clip is silent, so it has no scores.",
    "partly_silent": "Parts of at least 10 seconds are silent; they do not count.",
    "clipped": "Samples reach full scale: the recording level was too high.",
    "dc_offset": "The waveform is shifted off its zero line, often by faulty equipment.",
    "phase_cancel": "The channels cancel each other in the mix to mono, so little is left to score.",
    "downmixed": "More than two channels were averaged with equal weight.",
    "narrowband": "Nothing above 4 kHz, as on a telephone.",
    "upsampled": "The sample rate is high, but the sound was recorded or encoded at a lower one.",
    "short": "Shorter than 1 second; the clips that listeners rated were longer.",
    "truncated": "The file ends before the length in its header; what is there was scored.",
    "decode_warnings": "Damaged parts of the file were skipped.",
    "header_mismatch": "The header gives another length than the file has; all of the audio was scored.",
    "format_change": "Sample rate or channels change within the file; the rest was converted.",
    "segment_clamped": "The segment ends after the end of the clip; it was scored up to there.",
    "out_of_range": "The model's score was beyond the end of its scale and was set to that end.",
}
"""A sentence for each warning of a row."""

ERROR_PHRASES = {
    "not_found": "There is no such file.",
    "not_readable": "The file cannot be opened: permission is missing.",
    "fetch_failed": "The file could not be fetched from its address.",
    "empty_file": "The file is empty. Was it copied completely?",
    "no_samples": "The file has a header but no audio.",
    "unsupported_format": "This is not an audio file, or its format is not known.",
    "decode_failed": "The file is damaged: no audio could be read from it.",
    "decode_timeout": "The file takes too long to decode. It is probably damaged.",
    "decode_crashed": "The file is damaged so that it made its decoder crash.",
    "non_finite_audio": "The audio has samples that are not numbers.",
    "not_normalized": "Samples go far beyond full scale: they were probably stored with the wrong scale.",
    "bad_sample_rate": "The file gives a sample rate that does not occur in practice.",
    "too_short": "The clip is too short to score; 0.1 seconds are needed.",
    "bad_segment": "Start and end do not describe a segment.",
    "segment_out_of_range": "The segment starts after the end of the clip.",
    "over_limit": "The clip is longer, or has more channels or a higher sample rate, than this service accepts.",
    "worker_crashed": "The process that scored the clip crashed, twice.",
    "worker_hung": "The process that scored the clip stopped responding, twice.",
    "scoring_failed": "The model could not score the clip.",
}
"""A sentence for each error code of a row."""

BASIS_PHRASES = {
    "human": "rests on people's ratings of such clips",
    "distilled-human": "rests on another model, which was trained on people's ratings",
    "extrapolated": "rests on people's ratings of other clips of this kind, and on degraded versions of those",
    "constructed": "rests on clips that were degraded on purpose, not on ratings of such clips",
    "derived": "is estimated from the clip's other scores; treat it as a rough guess",
}
"""What a score rests on, to follow "This score"."""
