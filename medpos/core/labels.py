"""Define the class names, indices and colors of the data sets.

Colors are from the Okabe-Ito palette, which stays distinct under the common forms of color blindness; an organ keeps
its color in every table, overlay and figure. PASCAL VOC and Cityscapes, which have too many classes, keep their
published colors.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medpos.core.colors import distinct

if TYPE_CHECKING:
    import torch

TOLERANCE_MM = 2.0  # of the surface Dice, where dataset.json gives none
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")


@dataclass(frozen=True)
class Label:
    """Name one class of a label map.

    Args:
        index: value of the class in the label map; 0 is the background.
        name: lower-case name with underscores, used in CSV files and TensorBoard tags.
        color: ``#rrggbb``.
        tolerance_mm: distance in mm within which a boundary counts as right in the surface Dice, above 0.
    """

    index: int
    name: str
    color: str
    tolerance_mm: float = TOLERANCE_MM

    @property
    def title(self) -> str:
        """The name for people to read."""
        return title(self.name)

    def to_json(self) -> dict[str, int | str | float]:
        """Return the entry of this class in ``dataset.json``."""
        entry: dict[str, int | str | float] = {"index": self.index, "name": self.name, "colour": self.color}
        return entry if self.tolerance_mm == TOLERANCE_MM else {**entry, "tolerance_mm": self.tolerance_mm}

    @classmethod
    def from_json(cls, index: float, name: str, colour: str, tolerance_mm: float = TOLERANCE_MM) -> "Label":
        """Make a class from the keys of its entry in ``dataset.json``.

        Raises:
            ValueError: the index is no whole number, the name is no text, the color isn't ``#rrggbb``, or the tolerance
                isn't a number above 0.
        """
        if isinstance(index, float) and not index.is_integer():
            raise ValueError(f"expected a whole number as a label's index, got {index!r}")
        if not isinstance(name, str):
            raise ValueError(f"expected text as a label's name, got {name!r:.100}")
        if not (isinstance(colour, str) and _COLOR.fullmatch(colour)):
            raise ValueError(f"expected a label's colour as '#rrggbb', got {colour!r:.100}")
        if type(tolerance_mm) not in (int, float) or not 0 < tolerance_mm < math.inf:
            raise ValueError(f"expected a label's tolerance_mm above 0, got {tolerance_mm!r:.100}")
        return cls(int(index), name, colour, float(tolerance_mm))


def title(name: str) -> str:
    """Turn a class name into text for people to read: ``rv_cavity`` becomes ``RV cavity``."""
    return " ".join(word.upper() if word in ("rv", "lv", "csf") else word for word in name.split("_"))


def data_title(name: str) -> str:
    """Turn the name of a data set into text for people to read: ``jsrt`` becomes ``JSRT``."""
    return name.upper() if name in ("jsrt", "acdc") else name


def kind_title(kind: str) -> str:
    """Turn the name of a degradation or probe into text for people to read: ``shot_noise`` becomes ``shot noise``."""
    return kind.replace("_", " ").replace("gaussian", "Gaussian")


BACKGROUND = Label(0, "background", "#000000")
IGNORED = 255  # value of pixels in label maps that count neither in training nor in scores
# Right and left are the patient's: the right lung is on the left of a frontal chest X-ray.
JSRT = (
    BACKGROUND,
    Label(1, "right_lung", "#0072B2"),
    Label(2, "left_lung", "#56B4E9"),
    Label(3, "heart", "#D55E00"),
)
CLAVICLES = (
    Label(4, "right_clavicle", "#009E73"),
    Label(5, "left_clavicle", "#F0E442"),
)
# The indices of the challenge's own label maps (Bernard et al., IEEE TMI 37(11), 2018).
ACDC = (
    BACKGROUND,
    Label(1, "rv_cavity", "#0072B2"),
    Label(2, "myocardium", "#E69F00"),
    Label(3, "lv_cavity", "#D55E00"),
)
# Microscopy: each object has a number of its own besides its class.
NUCLEI = (BACKGROUND, Label(1, "nucleus", "#0072B2"))
CELLS = (BACKGROUND, Label(1, "cell", "#E69F00"))
# The order of IBSR's own label maps.
IBSR = (
    BACKGROUND,
    Label(1, "csf", "#56B4E9"),
    Label(2, "grey_matter", "#D55E00"),
    Label(3, "white_matter", "#F0E442"),
)
POLYP = (BACKGROUND, Label(1, "polyp", "#009E73"))
LIVER = (BACKGROUND, Label(1, "liver", "#D55E00"))
LESION = Label(2, "lesion", "#56B4E9")
NODULE = (BACKGROUND, Label(1, "lung_nodule", "#F0E442"))
DRIVE = (BACKGROUND, Label(1, "vessel", "#D55E00"))
# SegNet's classes in SegNet's order. CamVid has no background: 0 is void, the unlabeled pixels.
CAMVID = (
    Label(0, "void", "#000000"),
    Label(1, "sky", "#56B4E9"),
    Label(2, "building", "#802B00"),
    Label(3, "pole", "#D5FFFF"),
    Label(4, "road", "#CC79A7"),
    Label(5, "pavement", "#E69F00"),
    Label(6, "tree", "#009E73"),
    Label(7, "sign_symbol", "#F0E442"),
    Label(8, "fence", "#00FFAA"),
    Label(9, "car", "#0072B2"),
    Label(10, "pedestrian", "#D55E00"),
    Label(11, "bicyclist", "#8000FF"),
)
# PASCAL VOC's order and colors; pixels of no object are background.
VOC = (
    BACKGROUND,
    Label(1, "aeroplane", "#800000"),
    Label(2, "bicycle", "#008000"),
    Label(3, "bird", "#808000"),
    Label(4, "boat", "#000080"),
    Label(5, "bottle", "#800080"),
    Label(6, "bus", "#008080"),
    Label(7, "car", "#808080"),
    Label(8, "cat", "#400000"),
    Label(9, "chair", "#C00000"),
    Label(10, "cow", "#408000"),
    Label(11, "dining_table", "#C08000"),
    Label(12, "dog", "#400080"),
    Label(13, "horse", "#C00080"),
    Label(14, "motorbike", "#408080"),
    Label(15, "person", "#C08080"),
    Label(16, "potted_plant", "#004000"),
    Label(17, "sheep", "#804000"),
    Label(18, "sofa", "#00C000"),
    Label(19, "train", "#80C000"),
    Label(20, "tv_monitor", "#004080"),
)
# The 59 classes of PASCAL-Context in the order of its own list; the colors go on as VOC's palette does.
_CONTEXT = (
    "bag", "bed", "bench", "book", "building", "cabinet", "ceiling", "cloth", "computer", "cup", "door", "fence",
    "floor", "flower", "food", "grass", "ground", "keyboard", "light", "mountain", "mouse", "curtain", "platform",
    "sign", "plate", "road", "rock", "shelves", "sidewalk", "sky", "snow", "bedclothes", "track", "tree", "truck",
    "wall", "water", "window", "wood",
)  # fmt: skip


def palette_color(index: int) -> str:
    """Return a color of VOC's palette: its bits are the bits of the index, three by three, the lowest first."""
    channels = [sum((index >> 3 * k + channel & 1) << 7 - k for k in range(3)) for channel in range(3)]
    return "#{:02X}{:02X}{:02X}".format(*channels)


CONTEXT = (*VOC, *(Label(index, name, palette_color(index)) for index, name in enumerate(_CONTEXT, len(VOC))))
PERSON_PARTS = (
    BACKGROUND,
    Label(1, "head", "#D55E00"),
    Label(2, "torso", "#0072B2"),
    Label(3, "upper_arms", "#F0E442"),
    Label(4, "lower_arms", "#E69F00"),
    Label(5, "upper_legs", "#56B4E9"),
    Label(6, "lower_legs", "#009E73"),
)
# Cityscapes' train ids and colors. There is no background: class 0 is the road, other pixels are ignored.
CITYSCAPES = (
    Label(0, "road", "#804080"),
    Label(1, "sidewalk", "#F423E8"),
    Label(2, "building", "#464646"),
    Label(3, "wall", "#66669C"),
    Label(4, "fence", "#BE9999"),
    Label(5, "pole", "#999999"),
    Label(6, "traffic_light", "#FAAA1E"),
    Label(7, "traffic_sign", "#DCDC00"),
    Label(8, "vegetation", "#6B8E23"),
    Label(9, "terrain", "#98FB98"),
    Label(10, "sky", "#4682B4"),
    Label(11, "person", "#DC143C"),
    Label(12, "rider", "#FF0000"),
    Label(13, "car", "#00008E"),
    Label(14, "truck", "#000046"),
    Label(15, "bus", "#003C64"),
    Label(16, "train", "#005064"),
    Label(17, "motorcycle", "#0000E6"),
    Label(18, "bicycle", "#770B20"),
)
# The 37 classes of SUN RGB-D in its order. There is no background: 0 is void, the unlabeled pixels.
_ROOM = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture",
    "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor_mat", "clothes",
    "ceiling", "books", "refrigerator", "television", "paper", "towel", "shower_curtain", "box", "whiteboard",
    "person", "night_stand", "toilet", "sink", "lamp", "bathtub", "bag",
)  # fmt: skip
SUNRGBD = (
    Label(0, "void", "#000000"),
    *(Label(index, *named) for index, named in enumerate(zip(_ROOM, distinct(len(_ROOM)), strict=True), 1)),
)
_KNOWN = (
    PERSON_PARTS,
    CONTEXT,
    JSRT,
    (*JSRT, *CLAVICLES),
    ACDC,
    NUCLEI,
    CELLS,
    IBSR,
    DRIVE,
    VOC,
    CITYSCAPES,
    CAMVID,
    SUNRGBD,
    POLYP,
    LIVER,
    (*LIVER, LESION),
    NODULE,
)


def labels_of(names: Iterable[str]) -> tuple[Label, ...]:
    """Return the classes of any data set, background first.

    Args:
        names: foreground organs in the order of their indices, as ``metrics.csv`` lists them; repeats are dropped.

    Returns:
        The labels of a known data set if the names are exactly its own; else indices 1, 2 and so on, with the known
        colors for known names, of those that share one for the last, and the first free ones of
        :mod:`medpos.core.colors` for the others.
    """
    organs = tuple(dict.fromkeys(names))
    for labels in _KNOWN:
        if organs == tuple(label.name for label in labels[1:]):
            return labels
    known = {label.name: label.color for labels in _KNOWN for label in labels}
    owners = {known[name]: name for name in organs if name in known}
    free = iter([color for color in distinct(len(organs) + len(owners)) if color not in owners])
    colors = {name: color for color, name in owners.items()}
    return (BACKGROUND, *(Label(n, name, colors.get(name) or next(free)) for n, name in enumerate(organs, 1)))


MEAN_OF_ORGANS = "mean of organs"
ALL_CLASSES = "all classes"  # the background too


def as_labels(tensor: "torch.Tensor") -> npt.NDArray[np.uint8]:
    """Convert a label tensor [1, X, Y(, Z)] on any device to an array of class indices [X, Y(, Z)]."""
    labels: npt.NDArray[np.uint8] = tensor[0].byte().cpu().numpy()
    return labels
