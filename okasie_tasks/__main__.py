"""``python -m okasie_tasks``: the ``okasie`` command."""

from okasie_tasks.cli import main

if __name__ == "__main__":
    main()
