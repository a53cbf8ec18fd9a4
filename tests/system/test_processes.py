"""What processes of one run hand to one another."""

from training_runs import in_processes

from system import processes
from system.errors import WheeltapperError
from system.pipeline import session

WELL = [(0, "")] * 2


def exchange() -> None:
    processes.join("cpu")
    number = processes.number()
    assert processes.broadcast({"from": number, "figure": 0.1}) == {"from": 0, "figure": 0.1}
    assert processes.collect([number, None]) == [[0, None], [1, None]]
    assert processes.gather((number,)) == [(0,), (1,)]
    assert processes.share(range(5)) == (range(0, 5, 2), range(1, 5, 2))[number]
    processes.leave()


def test_values_of_two_processes():
    assert in_processes(2, exchange) == WELL


def wait_for_one_that_fails() -> None:
    processes.join("cpu")
    with session.one_voice():
        if not processes.is_main():
            raise WheeltapperError("this one knows why")
        processes.collect(None)


def test_who_waits_is_told_that_another_one_has_ended():
    assert in_processes(2, wait_for_one_that_fails, seconds=30) == [
        (1, ""),  # silent
        (1, "WheeltapperError: this one knows why"),
    ]


def test_alone_there_is_nobody_to_wait_for(capsys):
    assert processes.broadcast("a") == "a"
    assert processes.collect(1) == [1]
    assert processes.share([1, 2]) == [1, 2]
    processes.say("said")
    processes.leave()
    assert capsys.readouterr().out == "said\n"
