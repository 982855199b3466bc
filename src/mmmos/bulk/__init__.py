"""Bulk runs: many clips, many workers, parts that are published atomically, and a command that resumes.

`plan` · `commits` · `tasks` · `workers` · `ray_workers` · `ray_actor` · `ray_cluster` · `driver` · `failures`
· `stores` · `verify` · `finished` · `tables`
"""
