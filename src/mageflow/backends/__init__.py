"""Task managers that flows run on; each knows flow values and nothing else of ours."""
