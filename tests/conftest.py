"""For every test: shapes of the maths are checked, hypothesis repeats itself, torch keeps to one thread."""

import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# The annotations of these modules are checked in tests alone: training pays nothing. The hook must come before any
# module of the project is imported.
install_import_hook(["core.credit", "core.divergence", "core.surrogate", "core.sampling"], "beartype.beartype")

settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci")
torch.set_num_threads(1)
