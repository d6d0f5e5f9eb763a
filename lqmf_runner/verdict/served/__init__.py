"""Which of several versions served better: estimates from what was served, and the verdict over them."""
