"""Tell how far predictions can be trusted.

``calibration`` measures whether probabilities mean what they say, ``temperature`` corrects them.
"""
