"""Train and test a method, one configuration file per experiment.

    python train.py fit  --config configs/<experiment>.yaml [--model.lr=3e-4 --data.batch_size=64 ...]
    python train.py test --config configs/<experiment>.yaml [--ckpt_path <run folder>/checkpoints/best.ckpt]
    python train.py replay <run folder>/bad_steps/<step>.ckpt       # a step whose loss or gradient was no number

Every option of the configuration can be overridden on the command line; `fit --help` lists what all experiments share,
`fit --model.help=<class path>` the options of one method. Everything of a run lies in runs/<experiment>/<run id>/.
"""

import sys

from lightning_modules.early_signals import note_early_signals
from lightning_modules.installed import require_install


def main() -> None:
    """Run the command line; a mistyped option is refused before anything heavy is imported."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
        return
    note_early_signals()
    require_install()
    if arguments[0] == "replay":
        from lightning_modules.replay import main as replay

        replay(arguments[1:])
        return
    from lightning_modules.preflight import preflight

    preflight(arguments)
    from lightning_modules.cli import HandCLI

    HandCLI()


if __name__ == "__main__":
    main()
