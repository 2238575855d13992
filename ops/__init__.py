"""Hand ops: the hand model, the renderer, cameras, rotations and joint orders. Imports torch and numpy, no trainer."""
