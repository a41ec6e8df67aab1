"""The exceptions that are part of the interface."""


class UserError(ValueError):
    """A wrong path, file, label, checkpoint or config.

    The message is one sentence that names the thing and the mend; `genseg.main` and the other command-line entry
    points print it without a traceback and exit with status 2.
    """

    status = 2


class CorruptFile(UserError):
    """The bytes of one named image cannot be decoded."""


class TryAgain(Exception):
    """Nothing is wrong with the command: the job was told to end, or lost a process.

    The message is one sentence; `genseg.main` prints it and exits with status 75 (EX_TEMPFAIL of sysexits.h), on which
    a job manager starts the same command again.
    """

    status = 75
