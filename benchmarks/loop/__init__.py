"""What the loop costs beside other tools: one command runs every comparison of docs/speed.md.

python -m benchmarks.loop [--rounds 5] [--only NAME …]
"""
