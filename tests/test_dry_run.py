"""The dry run: what it says, and that it writes nothing."""

import tiny

from genseg import dry_run


def test_describes_and_writes_nothing(tmp_path):
    text = dry_run.dry_run(tiny.pretrain(tmp_path / "data").lock(), str(tmp_path / "dry"))
    assert "all-reduce" in text and "FLOPs" in text and "backbone/stem" in text
    assert not (tmp_path / "dry").exists()
