"""How much memory a job asks a cluster for. Standard library only: the Snakefile imports it."""


def growing(megabytes):
    """A `mem_mb` for a rule: so many MB, and as many again with each retry.

    A job that a cluster has killed for its memory so comes back with more. Source: the `attempt`
    of Snakemake's resource functions.
    """

    def mem_mb(wildcards, attempt):
        return megabytes * attempt

    return mem_mb
