"""Launchers of a sweep's jobs, where Hydra looks for them: `hydra/launcher=lqmf_ray` and `lqmf_slurm`.

Hydra imports this package whenever it starts, so that everything heavy is imported when a sweep is launched. What the
launchers do is in `lqmf_runner.app.launchers`.
"""
