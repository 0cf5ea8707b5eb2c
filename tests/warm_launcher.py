"""Executes the text that it is given, where a kernel's launcher would be a kernel; run by path, it is the cold way."""

import sys

if __name__ == "__main__":
    del sys.path[0]

import ipykernel.kernelapp  # noqa: F401


def main(arguments):
    sys.argv = [__file__, *arguments]
    exec(compile(arguments[0], "<kernel>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main(sys.argv[1:])
