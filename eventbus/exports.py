"""Marks what the package exports: `eventbus/__init__.py` imports each of these names at its first use."""


def public[Exported](exported: Exported) -> Exported:
    """Let a class or function say `eventbus` as its module: a decorator.

    So tracebacks and pickles do not depend on the file in which it is defined, nor on which module was imported first.
    """
    exported.__module__ = "eventbus"
    return exported
