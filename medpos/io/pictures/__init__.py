"""Read pictures as images or as label maps: ``files`` tells their formats, ``pages`` what their samples mean."""

from medpos.io.pictures.files import SUFFIXES, Picture, is_picture, read_picture, read_picture_labels

__all__ = ["SUFFIXES", "Picture", "is_picture", "read_picture", "read_picture_labels"]
