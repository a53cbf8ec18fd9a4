"""Supervised and unsupervised fault detection with the same encoders on the same recordings (MIMII paper).

Unlike the challenge, where anomalies occur in the test set only, a study splits normal and anomalous recordings alike.
Unsupervised models still use normal recordings only.
"""
