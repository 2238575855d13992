"""What sets on disk cost: every figure is of the set that was written."""

from benchmarks import shards


def test_costs_are_of_the_set_that_was_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(shards.FRAMES, "clean", shards.BATCH)
    costs = shards.measure("clean", tmp_path)
    there = [path for path in (tmp_path / "clean" / "train").iterdir()]
    assert {path.name for path in there} == {"manifest.json", "offsets.npy", "shard-00000.json", "shard-00000.tar"}
    assert costs.bytes == sum(path.stat().st_size for path in there) / shards.BATCH
    assert costs.on_the_fly > costs.written > 0 and costs.read > 0


def test_a_rate_is_of_processor_time_without_the_warm_up(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(shards.time, "process_time", lambda: clock[0])

    def spend(seconds: float) -> None:
        clock[0] += seconds

    assert shards._rate(lambda: spend(2.0), 100, lambda: spend(7.0)) == 50
