"""Turn pictures upright, for ``predict`` and ``data_prep`` alike."""

from PIL import Image, ImageOps

_ORIENTATION = 0x0112
UPRIGHT_NOTE = "turned upright as the EXIF orientation says"


def turn_upright(picture: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Turn a picture as its EXIF orientation says (EXIF 2.3, tag 0x0112), and say so in a remark.

    Args:
        picture: opened picture or page; the same picture is returned if it is upright.

    Returns:
        The upright picture and the remarks.
    """
    # Pillow turns a TIFF itself when it loads it, and drops the tag.
    turned = picture.getexif().get(_ORIENTATION, 1) in range(2, 9)
    picture.load()
    upright = ImageOps.exif_transpose(picture) if turned else picture
    return upright, (UPRIGHT_NOTE,) if turned else ()
