"""Scorers, views and weights of a system chosen by the labels of development machines, and what that choice is worth on
machines it has not seen.

``cache`` scores the embeddings of finished stages with every candidate, ``space`` says what may be chosen,
``objective`` works out the official score of many choices at once, ``search`` tries them, ``results`` chooses and
cross-validates.
"""
