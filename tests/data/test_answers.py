"""Answers in the forms of the usual test programs; the samples are made by hand with their columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmmos.data.answers import read_answers
from mmmos.errors import ManifestError, UsageError

LONG = "path,rater,score,system\na.wav,r1,4,x\na.wav,r2,5,x\nb.wav,r1,2,y\n"
WIDE = "path,anna,ben,system\na.wav,4,5,x\nb.wav,2,,y\n"
WEBMUSHRA = """session_test_id,email,age,gender,session_uuid,trial_id,rating_stimulus,rating_score,rating_time,\
rating_comment
test,a@b.c,30,f,u1,trial1,reference,100,5432,
test,a@b.c,30,f,u1,trial1,C1,37,5432,"dull, noisy"
test,d@e.f,41,m,u2,trial1,C1,45,9876,
"""
VOTES = """HITId,workerid,file,short_file_name,vote,condition
h1,w1,https://x.org/c1/a.wav,a.wav,4,c1
h1,w2,https://x.org/c1/a.wav,a.wav,3,c1
"""
P808 = """HITId,AssignmentId,WorkerId,AssignmentStatus,Input.Q0,Input.Q1,Input.Q2,Input.TP,Input.gold_clips,\
Answer.Q0,Answer.Q0_url,Answer.Q1,Answer.Q1_url,Answer.Q2,Answer.Q2_url,Answer.audio_n_play_q0
h1,s1,w1,Submitted,u/a.wav,u/b.wav,u/g.wav,u/t.wav,u/g.wav,4,u/a.wav,2,u/t.wav,5,u/g.wav,2
h1,s2,w2,Submitted,u/a.wav,u/b.wav,u/g.wav,u/t.wav,u/g.wav,1,u/b.wav,3,u/a.wav,5,u/g.wav,1
h1,s3,w3,Rejected,u/a.wav,u/b.wav,u/g.wav,u/t.wav,u/g.wav,1,u/b.wav,3,u/a.wav,5,u/g.wav,1
"""


def found(path: Path, text: str, **options: object) -> list[tuple[str, str, float]]:
    (path / "answers.csv").write_text(text)
    return [(answer.clip, answer.rater, answer.score) for answer in read_answers(path / "answers.csv", **options)]


def test_read_answers_of_long_tables(tmp_path: Path):
    assert found(tmp_path, LONG) == [("a.wav", "r1", 4), ("a.wav", "r2", 5), ("b.wav", "r1", 2)]
    assert read_answers(tmp_path / "answers.csv")[2].text == (("system", "y"),)


def test_read_answers_of_wide_tables(tmp_path: Path):
    assert found(tmp_path, WIDE) == [("a.wav", "anna", 4), ("a.wav", "ben", 5), ("b.wav", "anna", 2)]


def test_read_answers_of_webmushra(tmp_path: Path):
    rows = found(tmp_path, WEBMUSHRA, paths="audio/{trial}_{stimulus}.wav", label_range=(0, 100))
    assert rows == [
        ("audio/trial1_reference.wav", "u1", 100),
        ("audio/trial1_C1.wav", "u1", 37),
        ("audio/trial1_C1.wav", "u2", 45),
    ]
    with pytest.raises(UsageError, match="need --paths"):
        found(tmp_path, WEBMUSHRA)
    with pytest.raises(UsageError, match="and no other braces"):
        found(tmp_path, WEBMUSHRA, paths="{name}.wav")


def test_read_answers_of_the_p808_toolkit(tmp_path: Path):
    url = "https://x.org/c1/a.wav"
    assert found(tmp_path, VOTES) == [(url, "w1", 4), (url, "w2", 3)]
    # Without the trapping clip, the gold clip and the rejected session.
    assert found(tmp_path, P808) == [("u/a.wav", "w1", 4), ("u/b.wav", "w2", 1), ("u/a.wav", "w2", 3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LONG.replace("r2,5", "r1,5"), "line 3: r1 has rated a.wav in line 2"),
        (LONG.replace("r2,5", "r2,9"), "line 3: 9 is outside the scale 1-5"),
        (LONG.replace("r2,5", "r2,good"), "line 3: the score is not a number: 'good'"),
        (LONG.replace("r2,5", ",5"), "line 3 has no rater"),
        ("path,rater,score\n", "there is no answer"),
        ("path,rater,score\na.wav,r1,\n", "no row has a rating"),
    ],
    ids=["twice", "scale", "text", "nobody", "empty", "blank"],
)
def test_read_answers_refuses_bad_rows(text: str, message: str, tmp_path: Path):
    with pytest.raises(ManifestError, match=message):
        found(tmp_path, text, label_range=(1.0, 5.0))


def test_read_answers_leaves_out_bad_rows(tmp_path: Path):
    bad: list[ManifestError] = []
    text = LONG + "b.wav,r1,1,y\nb.wav,r2,good,y\nb.wav,,3,y\nb.wav,r3,3,y\n"
    rows = found(tmp_path, text, label_range=(1.0, 5.0), on_bad_row=bad.append)
    assert rows == [("a.wav", "r1", 4), ("a.wav", "r2", 5), ("b.wav", "r1", 2), ("b.wav", "r3", 3)]
    assert [str(error).split("line ", 1)[1].split(":")[0].split(" has")[0] for error in bad] == ["5", "6", "7"]
    # A wrong scale does not leave ratings out.
    with pytest.raises(ManifestError, match="line 3: 5 is outside the scale 1-4"):
        found(tmp_path, LONG, label_range=(1.0, 4.0), on_bad_row=bad.append)
    with pytest.raises(
        ManifestError, match=r"no row has a rating \(2 rows left out\); the first: .*line 2 has no rater"
    ):
        found(tmp_path, "path,rater,score\na.wav,,1\nb.wav,r1,x\n", on_bad_row=bad.append)


def test_read_answers_names_unknown_columns(tmp_path: Path):
    with pytest.raises(UsageError, match="its columns \\(path, mean\\) are not those of ratings"):
        found(tmp_path, "path,mean\na.wav,3\n")
    with pytest.raises(UsageError, match="--paths is for answers of webMUSHRA; these are long"):
        found(tmp_path, LONG, paths="{trial}.wav")
