"""Estimates: memory, speed, time and cost of a plan, each with its parts, formulas and an interval."""
