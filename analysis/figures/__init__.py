"""Figures: functions from measured numbers to a plotly figure; none is written twice."""
