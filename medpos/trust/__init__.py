"""Tell how far predictions can be trusted.

``calibration`` measures whether probabilities mean what they say, ``temperature`` corrects them. ``evidence`` collects
what ``detectors`` need to tell strange images, and ``light`` decides with them. ``signs`` collects what a prediction
says of its own quality, ``quality`` predicts its Dice from that, and ``failure`` scores how well bad predictions are
found.
"""
