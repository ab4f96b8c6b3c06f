"""Whole runs on fake nodes: real control plane, KubeRay, training-operator and operator; only the training is played.

A package, so that what it starts has ended when the tests on the real node begin.
"""
