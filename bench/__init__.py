"""What flows cost, side by side with the bare task manager: `python -m bench` writes RESULTS.md."""
