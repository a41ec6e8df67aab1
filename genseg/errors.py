"""The one exception for mistakes that a user can mend."""


class UserError(ValueError):
    """A wrong path, file, label, checkpoint or config.

    The message is one sentence that names the thing and the mend; `genseg.main` and the other command-line entry
    points print it without a traceback and exit with status 2.
    """
