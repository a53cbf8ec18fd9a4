"""Supervised and unsupervised detection of faults by the same encoders on the same recordings (MIMII paper).

Unlike the challenge, where anomalies are only ever tested on, a study splits normal and anomalous recordings alike.
What is called unsupervised here still learns from the normal ones alone.
"""
