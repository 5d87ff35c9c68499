"""Tell how far predictions can be trusted.

``calibration`` measures whether probabilities mean what they say, ``temperature`` corrects them. ``evidence`` collects
what ``detectors`` need to tell strange images, and ``light`` decides with them.
"""
