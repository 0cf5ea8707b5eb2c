"""Becomes ipykernel's own kernel, as `python -m ipykernel_launcher` does. Loaded by path."""

from ipykernel.kernelapp import IPKernelApp


def main(arguments: list[str]) -> None:
    """Be a kernel until it is shut down.

    Args:
        arguments: as ipykernel_launcher's.
    """
    IPKernelApp.launch_instance(arguments)
