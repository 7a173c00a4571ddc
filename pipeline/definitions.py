"""Assembles Dagster's definitions; nothing else."""

import dagster as dg

from pipeline.defs.building import build_defs

defs: dg.Definitions = build_defs()
