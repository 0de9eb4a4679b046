"""From a log to certified weights, step by step in Python.

python examples/log_to_weights.py FOLDER: an example log is written there, then checked, learnt from
and certified.
"""

import sys
from pathlib import Path

import jax

import mopl_jax as mopl
from mopl_jax.simulation.example import MEAN, write_example

jax.config.update("jax_enable_x64", True)


def main(folder: Path) -> None:
    write_example(folder)

    # what is this log? stop where it is not what it is said to be
    report = mopl.check_log(folder / "log.toml", time="day")
    print("the log:", report.verdict)
    if report.verdict == "refuse":
        raise SystemExit(3)

    # one half of the users teaches, the other half certifies
    logs = mopl.read_logs(folder / "log.toml")
    train, held = mopl.split(logs, share=0.5)

    # no weight may move by more than a fifth
    learnt = mopl.learn(train, constraints=mopl.constraints.box(0.8 * MEAN, 1.2 * MEAN))
    certificate = mopl.certify(learnt, held, baseline=MEAN)
    print("best guess:", learnt.proposal.guess.mean)
    print(certificate)

    # the same rows answer for any other policy that was not chosen on them
    print(mopl.evaluate(held, learnt.played, reward_range=(0, 1)))

    if certificate.keep:
        print("keep the current weights")
    else:
        path = mopl.write_policy(folder / "new.json", learnt.played, certificate=certificate)
        print("serve", path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "mopl-example"))
