"""The file a run was started with is kept."""

from vox2vec.training.keep_config import keep_config


def test_the_runs_folder_keeps_the_file_and_may_be_started_from_it_again(tmp_path):
    (tmp_path / "mine.yaml").write_text("lr: 1")
    keep_config(None, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    keep_config(tmp_path / "mine.yaml", tmp_path / "run")
    keep_config(tmp_path / "run" / "config.yaml", tmp_path / "run")
    assert (tmp_path / "run" / "config.yaml").read_text() == "lr: 1"
