"""Partitions: one per registered repository, its name the key.

What does not belong here: which repositories there are; the table `repositories` says so (corpus/).
"""

import dagster as dg

REPOSITORIES = "repository"

repository_partitions = dg.DynamicPartitionsDefinition(name=REPOSITORIES)


def synchronise(instance: dg.DagsterInstance, names: list[str]) -> tuple[list[str], list[str]]:
    """Makes the partitions be exactly `names`. Returns what was added and what was removed."""
    known = set(instance.get_dynamic_partitions(REPOSITORIES))
    added = [name for name in names if name not in known]
    removed = sorted(known - set(names))
    if added:
        instance.add_dynamic_partitions(REPOSITORIES, added)
    for name in removed:
        instance.delete_dynamic_partition(REPOSITORIES, name)
    return added, removed
