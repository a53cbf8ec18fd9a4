"""Tuning: chooses scorers, view, fusion and weights with the labels of development machines, and cross-validates the
choice over machines.

``cache`` scores the embeddings of finished runs with every candidate scorer, ``space`` defines the choices,
``objective`` computes the official score of many choices at once, ``search`` runs the trials, and ``results`` chooses
and cross-validates.
"""
