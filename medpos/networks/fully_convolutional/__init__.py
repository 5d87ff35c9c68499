"""Segment with the classifiers of ImageNet made fully convolutional: FCN and DeepLab."""
