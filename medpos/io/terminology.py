"""Name the anatomy of the classes by SNOMED CT, for DICOM SEG and 3D Slicer."""

from medpos.core.labels import Label

CATEGORY = ("123037004", "Anatomical Structure")
_STRUCTURE = ("91723000", "Anatomical structure")  # any
_CODES = {
    "adrenal_gland": ("23451007", "Adrenal gland"),
    "aorta": ("15825003", "Aorta"),
    "bladder": ("89837001", "Bladder"),
    "brain": ("12738006", "Brain"),
    "colon": ("71854001", "Colon"),
    "csf": ("65216001", "Cerebrospinal Fluid"),
    "duodenum": ("38848004", "Duodenum"),
    "esophagus": ("32849002", "Esophagus"),
    "gallbladder": ("28231008", "Gallbladder"),
    "grey_matter": ("389081007", "Gray Matter"),
    "heart": ("80891009", "Heart"),
    "hippocampus": ("5366008", "Hippocampus"),
    "kidney": ("64033007", "Kidney"),
    "left_atrium": ("82471001", "Left atrium"),
    "left_lung": ("44029006", "Left lung"),
    "liver": ("10200004", "Liver"),
    "lung": ("39607008", "Lung"),
    "lv_cavity": ("87878005", "Left ventricle"),
    "myocardium": ("74281007", "Myocardium"),
    "pancreas": ("15776009", "Pancreas"),
    "prostate": ("41216001", "Prostate"),
    "right_atrium": ("73829009", "Right atrium"),
    "right_lung": ("3341006", "Right lung"),
    "rv_cavity": ("53085002", "Right ventricle"),
    "spinal_cord": ("2748008", "Spinal cord"),
    "spleen": ("78961009", "Spleen"),
    "stomach": ("69695003", "Stomach"),
    "trachea": ("44567001", "Trachea"),
    "uterus": ("35039007", "Uterus"),
    "white_matter": ("389080008", "White Matter"),
}


def code_of(label: Label) -> tuple[str, str]:
    """Return code and meaning of a class; those of any anatomical structure for a name that isn't in the table."""
    return _CODES.get(label.name, _STRUCTURE)
