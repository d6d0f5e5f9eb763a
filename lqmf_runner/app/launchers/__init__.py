"""Launchers: the jobs of a sweep on other machines.

`sweep.py` packs the jobs, takes what they leave, and has it sent to MLflow. `on_ray.py` and `on_slurm.py` choose the
machines. `job.py` runs there: it starts `packed.py` in a process of its own, which keeps to its cores (`cores.py`).
"""
