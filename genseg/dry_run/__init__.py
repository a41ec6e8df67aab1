"""What a config would do, without training: schedule, sizes, what the compiler says of the step, and predictions.

On the devices at hand one batch is read and the step compiled. For a TPU slice (`topology`) nothing is read and no TPU
is needed: libtpu compiles the same step, at its true sizes, for chips that are only described.
"""
