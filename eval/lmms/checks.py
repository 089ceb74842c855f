"""Whether scores would mean here what they mean elsewhere."""

import os

from lmms_eval.tasks._task_utils.reasoning_utils import compute_score
from lmms_eval.tasks.mathvision.eval_utils import is_equal

from core.errors import InputError
from eval.install import INSTALL


def check_scorers() -> None:
    """Refuse surroundings in which right answers would be scored wrong, or somebody else would be asked.

    Raises:
        InputError: an environment variable that changes scores, or a library of the wrong version.
    """
    for name in ("USE_LLM_JUDGE", "NUM_IMAGE"):
        if name in os.environ:
            raise InputError(f"the environment variable {name} changes what lmms-eval scores; unset it")
    if not compute_score("", "<answer>\\frac{28}{2}</answer>", "14")["acc_score"]:
        raise InputError(f"math-verify does not take \\frac{{28}}{{2}} for 14 here; install lmms-eval anew: {INSTALL}")
    if not is_equal("14", "\\frac{28}{2}"):
        raise InputError(f"latex2sympy2 does not take \\frac{{28}}{{2}} for 14 here; install lmms-eval anew: {INSTALL}")
