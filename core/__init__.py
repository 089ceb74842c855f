"""The method: train a policy with token-level credit and record what every token got.

Read it in this order: `credit` (the equations), `methods` (five methods, one dataclass each), `algorithm` (one step of
Algorithm 1), then the parts it calls: `hints`, `teachers`, `updates`, `engines`, `recorder`.
"""
