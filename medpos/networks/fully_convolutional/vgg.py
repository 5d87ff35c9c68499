"""List the convolutions of VGG-16 and the names of its published weights.

Reference:
    K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, table 1,
    column D.
"""

# Channels of the 3 x 3 convolutions of each stage; 2 x 2 max-pooling follows each stage.
STAGES = {"conv1": (64, 64), "conv2": (128, 128), "conv3": (256,) * 3, "conv4": (512,) * 3, "conv5": (512,) * 3}
LAYERS = tuple(f"{stage}_{layer}" for stage, channels in STAGES.items() for layer in range(1, len(channels) + 1))
# torchvision numbers convolutions, ReLUs and poolings; the authors' Caffe model has the names above.
TORCHVISION = dict(zip(LAYERS, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), strict=True))
