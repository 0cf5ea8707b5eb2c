"""Settings of all tests."""

from hypothesis import settings

settings.register_profile("kit", deadline=None)  # shared machines are slow at times, and no test is about time
settings.load_profile("kit")
