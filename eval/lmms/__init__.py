"""lmms-eval, and all that Credence knows of it: one benchmark at a time, in this process, by its own task and scorer.

No other package imports lmms-eval. What it leaves to chance is settled here: math-verify is silently off in threads, so
scoring uses none; a token limit called `max_tokens` is silently ignored, so it is refused; `until`, a blank line by
default, would cut reasoning off, so it is ignored; a judge model or a second picture that the environment asks for
changes scores, so they are refused.
"""
