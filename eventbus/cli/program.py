"""The program ``eventbus``. This module imports nothing, so that Ctrl-C gives no traceback while the rest is imported."""


def program() -> int:
    """Run the command that the arguments of this process name, and return its exit status. Then the process must end."""
    try:
        import gc

        from eventbus.cli.main import main

        status = main()
        gc.freeze()  # what ends with the process need not be collected first, which takes a tenth of a short command's time
    except KeyboardInterrupt:
        return 130
    return status
