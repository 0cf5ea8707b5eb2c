"""Memos: what a command that had nothing to do said, and all that this rested on, so that it can be said again at once.

A memo is a cache below `.kit/`. It is left by the ordinary path and by nothing else, it lists every file, folder and absence
that this path looked at, and it answers only while each of them is what it was. In doubt the ordinary path answers.
"""
